// The page of one model: photos in, answers out. Nothing is asked of any network.

const about = JSON.parse(document.getElementById("about").textContent);
const MOST_PIXELS = 120_000_000;  // as photos/pixels.py
const SHOWN = 640;  // pixels of a shown photo's long side
const SHOWN_ANSWERS = 50;  // each holds its photo and maps
const CURRENT = "a current Chrome, Edge, Firefox or Safari";

const find = (id, place = document) => place.querySelector(`[data-is=${id}]`);
const tell = text => find("status").textContent = text;
const percent = share => `${(100 * share).toFixed(1)}\u00a0%`;
const breathe = () => new Promise(done => setTimeout(done, 30));  // lets the browser draw what was said

function introduce() {
  const {validation, attribution, classes, chosen} = about;
  document.title = find("classes").textContent = classes.length < 13 ? classes.join(" · ")
    : `${classes.slice(0, 12).join(" · ")} and ${classes.length - 12} more`;
  const [low, high] = (validation.interval ?? []).map(share => (100 * share).toFixed(1));
  if (validation.n) find("quality").textContent = `The model was right about ${percent(validation.accuracy)} of ${validation.n} validation photos, which it had `
    + `not learned from (95 % interval ${low} to ${high} %).${chosen ? " Its epoch was chosen on them, which flatters the figure a little." : ""}`;
  find("attribution").textContent = attribution;
  find("version").textContent = about.version;
}

// Return the bytes that stand in the page as base64, once.
function take(id) {
  const element = document.getElementById(id), text = element.textContent, step = 1 << 20;
  element.remove();
  const bytes = new Uint8Array(text.length / 4 * 3 - (text.match(/=*$/)[0].length));
  for (let start = 0, end = 0; start < text.length; start += step) {
    const part = atob(text.slice(start, start + step));
    for (let i = 0; i < part.length; i++) bytes[end++] = part.charCodeAt(i);
  }
  return bytes;
}

// Return ONNX Runtime and the model in it.
async function load() {
  await breathe();
  const script = URL.createObjectURL(new Blob([take("runtime")], {type: "text/javascript"}));
  const packed = new Blob([take("runtime-wasm")]).stream().pipeThrough(new DecompressionStream("gzip"));
  const ort = await import(script);
  Object.assign(ort.env.wasm, {wasmBinary: await new Response(packed).arrayBuffer(), numThreads: 1, proxy: false});
  return {ort, session: await ort.InferenceSession.create(take("model"), {executionProviders: ["wasm"]})};
}

// Return a file as an upright RGB image, transparency on white; its colors as they stand in the file.
async function read(file) {
  const bitmap = await createImageBitmap(file, {imageOrientation: "from-image", colorSpaceConversion: "none"}).catch(() => {
    throw new Error("cannot be read: it is damaged, or of a kind that this browser does not know. Save it as JPEG or PNG.");
  });
  const {width, height} = bitmap;
  if (width * height > MOST_PIXELS) throw new Error(`has more than ${MOST_PIXELS.toLocaleString("en")} pixels (${width} x ${height}): shrink it.`);
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const colors = context.getImageData(0, 0, width, height).data;
  if (colors[3] !== 255) throw new RangeError();  // a canvas beyond a browser's limit is empty, without a word
  const data = new Uint8ClampedArray(width * height * 3);
  for (let i = 0, j = 0; j < data.length; i += 4, j += 3) [data[j], data[j + 1], data[j + 2]] = [colors[i], colors[i + 1], colors[i + 2]];
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  return {width, height, data, jpeg: first === 0xff && second === 0xd8};
}

// Return what the model says of a photo.
async function classify(photo, {ort, session}) {
  const {preprocessing} = about, drafted = photo.jpeg ? draft(photo, 2 * preprocessing.image_size) : photo;
  const square = prepare(drafted, preprocessing);
  const pixels = new ort.Tensor("uint8", new Uint8Array(square.data.buffer), [1, square.height, square.width, 3]);
  const {probabilities, maps, distances} = await session.run({pixels});
  const [, , height, width] = maps.dims, cells = height * width;
  return {
    probabilities: probabilities.data,
    none: about.threshold !== null && distances.data[0] > about.threshold,
    mapOf: k => ({width, height, data: maps.data.subarray(k * cells, (k + 1) * cells)}),
    scale: commonScale(maps.data),
  };
}

function draw(canvas, {width, height, data}) {
  Object.assign(canvas, {width, height});
  const shown = new ImageData(width, height);
  for (let i = 0, j = 0; j < data.length; i += 4, j += 3) shown.data.set([data[j], data[j + 1], data[j + 2], 255], i);
  canvas.getContext("2d").putImageData(shown, 0, 0);
}

// Return an answer as it is shown.
function card(name, photo, answer) {
  const place = find("answer").content.cloneNode(true).firstElementChild;
  const ranked = [...answer.probabilities.keys()].sort((a, b) => answer.probabilities[b] - answer.probabilities[a]);
  const shrink = Math.min(1, SHOWN / Math.max(photo.width, photo.height));
  const shown = shrink < 1 ? resize(photo, ...[photo.width, photo.height].map(side => Math.max(1, round(side * shrink))), "bicubic") : photo;
  const [map, choice, fade] = ["map", "of", "fade"].map(id => find(id, place));

  find("name", place).textContent = name;
  find("none", place).hidden = !answer.none;
  find("label", place).textContent = about.classes[ranked[0]];
  find("probability", place).textContent = percent(answer.probabilities[ranked[0]]);
  for (const k of ranked) {
    const row = find("row").content.cloneNode(true), share = answer.probabilities[k];
    row.querySelector("span").textContent = about.classes[k];
    row.querySelector(".share").style.setProperty("--share", share);
    row.querySelector("output").textContent = percent(share);
    find("ranked", place).append(row);
    choice.append(new Option(about.classes[k], k));
  }
  draw(find("photo", place), shown);
  draw(find("bar", place), colorBar(320));
  find("low", place).textContent = `${(-answer.scale).toFixed(1)} and below`;
  find("high", place).textContent = `+${answer.scale.toFixed(1)} and above`;
  choice.onchange = () => {
    draw(map, paint(shown, answer.mapOf(Number(choice.value)), answer.scale, boxOf(about.preprocessing, shown.width, shown.height)));
    map.ariaLabel = `What speaks for ${about.classes[choice.value]}, in orange; against it, in purple`;
  };
  fade.oninput = () => map.style.opacity = fade.value / 100;
  choice.onchange();
  fade.oninput();
  return place;
}

async function look(file) {
  const name = file.name || "The photo";
  try {
    tell(`Looking at ${name} …`);
    await breathe();
    const photo = await read(file), answer = await classify(photo, await model), shown = card(name, photo, answer);
    find("answers").prepend(shown);
    while (find("answers").children.length > SHOWN_ANSWERS) find("answers").lastElementChild.remove();
    tell(`${name}: ${answer.none ? "none of these" : `${find("label", shown).textContent}, ${find("probability", shown).textContent}`}`);
  } catch (error) {
    tell("");
    complain(`${name} ${error instanceof RangeError ? "needs more memory than there is: shrink it." : error.message}`);
  }
}

function complain(text) {
  const line = find("error").content.cloneNode(true).firstElementChild;
  find("answers").prepend(line);
  line.textContent = text;
}

function lookAtAll(files) {
  if (!files.length) complain("That was no file. Save the photo on this computer first, then drop it here.");
  for (const file of files) waiting = waiting.then(() => look(file));
}

introduce();
const model = load(), choose = find("choose");
let waiting = model.then(() => tell("Ready."), error => {
  choose.disabled = true;
  tell("");
  complain(`The model could not be loaded (${error.message}): try ${CURRENT}, on a computer with more memory.`);
  return new Promise(() => {});  // nothing is looked at
});
choose.onchange = () => { lookAtAll([...choose.files]); choose.value = ""; };
document.ondragover = event => event.preventDefault();
document.ondrop = event => { event.preventDefault(); lookAtAll([...event.dataTransfer.files]); };
document.onpaste = event => lookAtAll([...event.clipboardData.files]);
