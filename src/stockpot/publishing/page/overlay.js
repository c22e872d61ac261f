// A class activation map painted on its photo, as model/overlay.py does it: orange speaks for the class, purple against.

const FOR = [230, 97, 1], AGAINST = [94, 60, 153];  // RGB
const STRONGEST = 0.85;  // opacity where the evidence reaches the end of the scale
const RISE = 0.7;  // exponent of the opacity

// Return one end of the scale: what 98 % of the cells of all maps of a photo stay within.
function commonScale(maps) {
  const sizes = maps.map(Math.abs).sort(), place = 0.98 * (sizes.length - 1), low = Math.floor(place);
  return sizes[low] + (place - low) * (sizes[Math.min(low + 1, sizes.length - 1)] - sizes[low]) || 1;
}

// Return the photo in gray with the map in color on `box` of it.
function paint(photo, map, scale, box) {
  const [left, top, right, bottom] = box.map(round), blank = new Float32Array(photo.width * photo.height);
  const enlarged = resize(map, Math.max(1, right - left), Math.max(1, bottom - top), "bilinear");
  const evidence = paste({width: photo.width, height: photo.height, data: blank}, enlarged, left, top).data;
  const painted = new Uint8ClampedArray(photo.data.length);
  evidence.forEach((value, i) => {
    const [r, g, b] = photo.data.subarray(3 * i, 3 * i + 3);
    const gray = 40 + 0.8 * ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16);  // luma of ITU-R 601
    const opacity = Math.min(Math.abs(value / scale), 1) ** RISE * STRONGEST, color = value > 0 ? FOR : AGAINST;
    color.forEach((one, c) => painted[3 * i + c] = gray * (1 - opacity) + one * opacity);
  });
  return {...photo, data: painted};
}

// Return the colors from one end of the scale to the other, over gray.
function colorBar(width) {
  const gray = {width, height: 1, data: new Uint8ClampedArray(3 * width).fill(128)};
  const ramp = {width, height: 1, data: Float32Array.from({length: width}, (_, x) => 2 * x / (width - 1) - 1)};
  return paint(gray, ramp, 1, [0, 0, width, 1]);
}
