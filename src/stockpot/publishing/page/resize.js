// Photos to what the network receives, as photos/preprocessing.py does it; enlarging and reducing as Pillow does it,
// to the last bit. An image is {width, height, data}, its channels side by side: bytes, or a map's 32-bit numbers.

const FILTERS = {
  box: {reach: 0.5, weight: x => Number(-0.5 < x && x <= 0.5)},
  bilinear: {reach: 1, weight: x => Math.max(0, 1 - Math.abs(x))},
  bicubic: {reach: 2, weight: x => cubic(Math.abs(x))},
};
const SHARP = -0.5;  // the free parameter of cubic convolution (Keys, 1981)
const ONE = 2 ** 22;  // of bytes, weights are whole numbers; these add up to it

function cubic(x) {
  if (x < 1) return ((SHARP + 2) * x - (SHARP + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * SHARP : 0;
}

// Return the part of a photo that the network's square covers: left, top, right, bottom.
function boxOf({resize: way}, width, height) {
  if (way === "squash") return [0, 0, width, height];
  const side = way === "crop" ? Math.min(width, height) : Math.max(width, height);
  const left = (width - side) / 2, top = (height - side) / 2;
  return [left, top, left + side, top + side];
}

// Return a large JPEG as photos/pixels.py has it: read at 1/2, 1/4 or 1/8, which is nearly the mean of squares.
function draft(photo, atLeast) {
  const part = [8, 4, 2].find(one => Math.min(photo.width, photo.height) >= one * atLeast) ?? 1;
  const [width, height] = [photo.width, photo.height].map(side => Math.ceil(side / part));
  return part === 1 ? photo : resize(photo, width, height, "box", [0, 0, width * part, height * part]);
}

// Return the square of RGB bytes that the network receives.
function prepare(photo, preprocessing) {
  const {image_size: size, interpolation, mean} = preprocessing, box = boxOf(preprocessing, photo.width, photo.height);
  if (preprocessing.resize !== "pad") return resize(photo, size, size, interpolation, box);
  const inner = [photo.width, photo.height].map(side => Math.max(1, round(side * (size / (box[2] - box[0])))));
  const square = {width: size, height: size, data: new Uint8ClampedArray(size * size * 3)};
  square.data.forEach((_, i) => square.data[i] = round(mean[i % 3]));
  return paste(square, resize(photo, ...inner, interpolation), ...inner.map(side => Math.floor((size - side) / 2)));
}

// Return `box` of an image, all of it by default, as one of width x height.
function resize(image, width, height, interpolation, [left, top, right, bottom] = [0, 0, image.width, image.height]) {
  const channels = image.data.length / (image.width * image.height), filter = FILTERS[interpolation];
  const across = (data, rows) => stretch(data, [rows, image.width, channels], width, left, right, filter);
  const down = (data, columns) => stretch(data, [1, image.height, columns * channels], height, top, bottom, filter);
  const tall = image.height - height > Math.max(0, 2 * (image.width - width));  // as Pillow 13: less is computed
  return {width, height, data: tall ? across(down(image.data, image.width), height) : down(across(image.data, image.height), width)};
}

// Resample the middle axis of (outer, length, inner) from `from`..`to` to `target` values.
function stretch(data, [outer, length, inner], target, from, to, filter) {
  const bytes = !(data instanceof Float32Array), result = new data.constructor(outer * target * inner);
  for (let x = 0; x < target; x++) {
    const {first, weights} = weigh(from + (x + 0.5) * (to - from) / target, (to - from) / target, length, filter);
    if (bytes) weights.forEach((one, i) => weights[i] = Math.trunc(one * ONE + Math.sign(one) / 2));
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        let sum = bytes ? ONE / 2 : 0;
        for (let k = 0, at = (o * length + first) * inner + i; k < weights.length; k++, at += inner) sum += weights[k] * data[at];
        result[(o * target + x) * inner + i] = bytes ? Math.floor(sum / ONE) : sum;  // bytes clamp themselves
      }
    }
  }
  return result;
}

// Return what the values around a point count for; the filter is as wide as a step, so that none is left out.
function weigh(center, step, length, {reach, weight}) {
  const width = Math.max(step, 1);
  const first = Math.max(0, Math.trunc(center - reach * width + 0.5));
  const last = Math.min(length, Math.trunc(center + reach * width + 0.5));
  const weights = Float64Array.from({length: last - first}, (_, k) => weight((k + first - center + 0.5) / width));
  const sum = weights.reduce((all, one) => all + one, 0);
  return {first, weights: weights.map(one => one / sum)};
}

// Return the image with another on it; what reaches beyond it is cut off.
function paste(image, other, left, top) {
  const channels = image.data.length / (image.width * image.height);
  const from = Math.max(0, left), to = Math.min(image.width, left + other.width);
  for (let y = Math.max(0, top); y < Math.min(image.height, top + other.height); y++) {
    const row = (y - top) * other.width - left;
    image.data.set(other.data.subarray((row + from) * channels, (row + to) * channels), (y * image.width + from) * channels);
  }
  return image;
}

// Round as Python does: halves to the even neighbor.
function round(x) {
  return x % 1 === 0.5 || x % 1 === -0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}
