"use strict";
/* Pictures: two layers of an image behind a slider. */

const IGNORED = 255;
const HATCH = [[120, 120, 120], [225, 225, 225]];
const WRONG = [213, 94, 0];
const OTHER_WRONG = [86, 180, 233];
const LAYERS = { image: "Image", truth: "Truth", prediction: "Prediction", difference: "Difference" };
/* Viewers of suspected label errors always show these two. */
const OF_ERRORS = { left: "truth", right: "prediction", strength: 0.45, pair: null };

const content = JSON.parse(document.getElementById("content").textContent);
const numClasses = content.classes.length;

/* What all viewers show; `pair` is {label, prediction} while the images of a cell are shown. */
const view = { left: "truth", right: "prediction", strength: 0.6, pair: null };
const viewers = new Set();

/* A new element; text and attributes are never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "line", "path", "circle", "text", "title"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick" || name === "oninput") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/* A name without characters that are not seen, such as those that turn the order of letters. */
function visible(name) {
  return name.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, "\ufffd");
}

function named(name, tag = "span") {
  return make(tag, { class: "name" }, visible(name));
}

function className(index) {
  return index === IGNORED ? "ignored" : visible(content.classes[index].name);
}

async function unpack(text, width) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const classes = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let i = width; i < classes.length; i++) classes[i] ^= classes[i - width];
  return classes;
}

const loaded = new Map();

/* The pixels of a picture: rgb, label and prediction. */
function load(name) {
  if (!loaded.has(name)) loaded.set(name, read(name));
  return loaded.get(name);
}

async function read(name) {
  const data = JSON.parse(document.getElementById(name).textContent);
  const image = new Image();
  image.src = data.image;
  const [label, prediction] = await Promise.all([
    unpack(data.label, data.width), unpack(data.prediction, data.width), image.decode(),
  ]);
  return { width: data.width, height: data.height, image, label, prediction };
}

/* Paint a layer: the image, and over it class colors or errors. */
function paint(canvas, picture, layer, shown) {
  const { width, height, image, label, prediction } = picture;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (layer === "difference") context.filter = "grayscale(1) contrast(.75) brightness(1.1)";
  context.drawImage(image, 0, 0, width, height);
  context.filter = "none";
  if (layer === "image") return;
  const colors = new ImageData(width, height);
  for (let i = 0; i < label.length; i++) {
    const [color, opacity] = layer === "difference" ? errorColor(label[i], prediction[i], shown.pair)
      : classColor(layer === "truth" ? label[i] : prediction[i], shown.strength);
    if (opacity === 0) continue;
    const hatched = color === null;
    const [red, green, blue] = hatched ? HATCH[((i % width) + Math.floor(i / width)) % 8 < 4 ? 0 : 1]
      : color;
    colors.data.set([red, green, blue, 255 * opacity], 4 * i);
  }
  const over = make("canvas", { width, height });
  over.getContext("2d").putImageData(colors, 0, 0);
  context.drawImage(over, 0, 0);
}

function classColor(index, strength) {
  return index === IGNORED ? [null, strength * 0.75] : [content.classes[index].color, strength];
}

function errorColor(label, prediction, pair) {
  if (label === IGNORED) return [null, 0.3];
  if (pair === null) return [WRONG, label === prediction ? 0 : 0.85];
  if (label === pair.label && prediction === pair.prediction) return [WRONG, 0.9];
  return [OTHER_WRONG, label === prediction ? 0 : 0.45];
}

/* Two layers of a picture behind a slider, painted when it comes into view. */
function newViewer(name, title, size, shown = view, box = null) {
  const back = make("canvas", { "aria-hidden": "true" });
  const front = make("canvas", { class: "front", "aria-hidden": "true" });
  const slider = make("input", { type: "range", min: 0, max: 100, value: 50, step: 1 });
  const left = make("span", { class: "tag left", "aria-hidden": "true" });
  const right = make("span", { class: "tag right", "aria-hidden": "true" });
  const readout = make("span", { class: "readout", "aria-hidden": "true" });
  const root = make("div", { class: "viewer" }, back, front, make("div", { class: "divider" }),
    left, right, readout, slider);
  root.style.aspectRatio = `${size[0]} / ${size[1]}`;
  if (Math.max(...size) <= 160) root.classList.add("pixelated");
  if (box !== null) {
    const region = make("div", { class: "region" });
    ["left", "top", "width", "height"].forEach((side, i) => { region.style[side] = `${100 * box[i]}%`; });
    root.append(region);
  }
  let picture = null;
  const split = () => {
    root.style.setProperty("--split", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value} % ${LAYERS[shown.left]}`);
  };
  const viewer = {
    root,
    repaint() {
      left.textContent = LAYERS[shown.left];
      right.textContent = LAYERS[shown.right];
      slider.setAttribute("aria-label",
        `${title}: ${LAYERS[shown.left]} to the left, ${LAYERS[shown.right]} to the right`);
      split();
      if (picture === null) return;
      paint(front, picture, shown.left, shown);
      paint(back, picture, shown.right, shown);
      root.dataset.painted = `${shown.left} ${shown.right}`;
    },
    async show() {
      try {
        picture = await load(name);
        viewer.repaint();
      } catch (error) {
        root.append(make("div", { class: "failed" }, `This picture cannot be decoded: ${error.message}`));
      }
    },
  };
  slider.addEventListener("input", split);
  root.addEventListener("pointermove", (event) => {
    if (picture === null) return;
    const area = root.getBoundingClientRect();
    const x = Math.floor((event.clientX - area.left) / area.width * picture.width);
    const y = Math.floor((event.clientY - area.top) / area.height * picture.height);
    const i = y * picture.width + x;
    if (x < 0 || y < 0 || x >= picture.width || y >= picture.height) return;
    const [truth, found] = [picture.label[i], picture.prediction[i]];
    readout.textContent = truth === found ? className(truth)
      : `labeled ${className(truth)}, predicted ${className(found)}`;
  });
  root.addEventListener("pointerleave", () => { readout.textContent = ""; });
  viewers.add(viewer);
  root.viewer = viewer;
  viewer.repaint();
  watcher.observe(root);
  return viewer;
}

const watcher = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    target.viewer.show();
  }
}, { rootMargin: "500px" });

function repaintAll() {
  for (const viewer of viewers) {
    if (viewer.root.isConnected) viewer.repaint();
    else viewers.delete(viewer);
  }
}
