#!/usr/bin/env bash
# The lab in commands; the numbers are those of the lab sheet.
#
#   bash examples/lab.sh PHOTOS PROJECT [LAYERS]
#
# PHOTOS   a folder with one folder of photos a class
# PROJECT  a folder to make; the pictures go to PROJECT-why beside it
# LAYERS   what fine-tuning lets learn: all, or the last ones, which is quicker: block12
set -euo pipefail

if [ $# -lt 2 ]; then
  echo "usage: bash examples/lab.sh PHOTOS PROJECT [LAYERS]" >&2
  exit 2
fi
photos=$1 project=$2 layers=${3:-all} why=$2-why

# 1    A few hundred photos of three classes. From an image search instead:
#      stockpot collect "$project" "apple pie" "baklava" "baby back ribs" --per-class 330
# 1.2  Classes that CIFAR or ImageNet know by name are warned of; --strict refuses them.
stockpot collect "$project" --from "$photos"

# 1.3  What is certainly wrong is set aside; curation.html shows the rest. Back again: --undo last
stockpot curate "$project" --auto

# 2    A private data set. 2.3: 80 % to learn from, 20 % to look at. 2.4: the report shows photos as the networks get them.
stockpot split "$project" --validation 0.2 --seed 0

# 3    The network that is best on CIFAR-10, from random weights. 2.2: at 32 x 32. 3.1: an output for each class.
stockpot train "$project" --recipe from-scratch --name scratch

# 4    The same network with the weights that CIFAR-10 gave it: 4.2 frozen, 4.3 BatchNorm in inference mode,
#      4.4 without its last layer, 4.5 with a new one, 4.6 which learns.
stockpot train "$project" --recipe linear-probe --backbone cifar --name cifar

# 5    ImageNet's. 5.1: at 256 x 256. 5.2: Xception up to GAP, frozen. 5.3: a new last layer learns and is saved.
stockpot train "$project" --recipe linear-probe --backbone xception --name probe

# 5.4  That run goes on: 5.4.1 all layers learn, 5.4.2 but no running mean or variance moves, 5.4.3 at a tenth of the
#      rate; 5.4.4 the best epoch is saved.
stockpot train "$project" --recipe fine-tune --start "$project/runs/probe" --trainable "$layers" --name tuned

# 3-5  Side by side: how good, with intervals? Any gain?
stockpot compare "$project"

# Prints the validation photos that the last run got right, or wrong: the first two of each class.
judged() {
  python3 - "$project" "$1" <<'END'
import csv, sys
from collections import Counter

project, wanted = sys.argv[1:]
seen = Counter()
with open(f"{project}/runs/tuned/predictions.csv", newline="", encoding="utf-8") as table:
    for path, _, truth, label, *_ in list(csv.reader(table))[1:]:
        if ("right" if truth == label else "wrong") == wanted and seen[truth] < 2:
            seen[truth] += 1
            print(f"{project}/{path}")
END
}

# 6    Photos that are classified correctly, of varied content.
right=()
while IFS= read -r photo; do right+=("$photo"); done < <(judged right)

# 7    The first: 7.1 some of its 2048 channels of 8 x 8, 7.2 their weighted sum, 7.3 the map on the photo.
if [ ${#right[@]} -gt 0 ]; then
  stockpot explain "$project/runs/tuned" "${right[0]}" --channels 16 --output "$why/first"

# 8    The maps of all of them.
  stockpot explain "$project/runs/tuned" "${right[@]}" --output "$why/right"
fi

# 9    9.1 What is classified wrongly, 9.2 and the maps.
wrong=()
while IFS= read -r photo; do wrong+=("$photo"); done < <(judged wrong)
if [ ${#wrong[@]} -gt 0 ]; then
  stockpot explain "$project/runs/tuned" "${wrong[@]}" --output "$why/wrong"
fi

# All of it on one page, in Polish and in English. What you think of 7.3, 8, 9.1 and 9.2 goes into PROJECT/notes.md,
# below headings like "## 7.3"; then write the report again.
stockpot report "$project" --run tuned --language pl
mv "$project/report.html" "$why/report.pl.html"
stockpot report "$project" --run tuned
