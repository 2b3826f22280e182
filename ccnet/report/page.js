/* The page: tables, the choice of images, and what keys and clicks do. */

const PER_PAGE = 24;
const byId = (id) => document.getElementById(id);
const state = { order: [], visible: PER_PAGE, errors: 12, opened: 0 };

function facts() {
  for (const [name, value] of Object.entries(content.facts)) {
    byId("facts").append(make("div", {}, make("dt", {}, name), named(value, "dd")));
  }
  for (const sentence of content.warnings) {
    byId("warnings").append(make("p", { class: "warning" }, `Warning: ${sentence}.`));
  }
  byId("boundary-definition").textContent =
    `IoU of those pixels of a class that are near its contour: at most ${percent(content.boundary_share_of_diagonal, 1)} % ` +
    "of the image’s diagonal away, the edge of the image included (Cheng et al., CVPR 2021).";
}

function numbers() {
  const counted = numClasses - content.absent.length;
  const over = content.absent.length ? `over ${counted} of ${numClasses} classes` : `${numClasses} classes`;
  const items = [
    [percent(content.miou, 2), "%", `mIoU, ${over}`],
    [percent(content.boundary_miou, 2), "%", "boundary mIoU"],
    [percent(content.pixel_accuracy, 2), "%", "pixel accuracy"],
    [percent(content.mean_accuracy, 2), "%", "mean accuracy"],
    [percent(content.mean_image_iou, 2), "%", "mean image IoU"],
    [percent(content.calibration_error, 2), "%", "calibration error"],
    [count(content.images), "", content.images === 1 ? "image" : "images"],
  ];
  byId("numbers").append(...items.map(([value, unit, name]) => make("div", { class: "number" },
    make("b", {}, value, unit ? make("small", {}, unit) : null), make("span", {}, name))));
}

function swatch(index) {
  const element = make("span", { class: "swatch", "aria-hidden": "true" });
  if (index === IGNORED) element.classList.add("hatched");
  else element.style.background = `rgb(${content.classes[index].color.join(",")})`;
  return element;
}

const COLUMNS = [
  ["class", "name"], ["IoU %", "iou"], ["boundary IoU %", "boundary_iou"], ["accuracy %", "accuracy"],
  ["precision %", "precision"], ["labeled pixels", "labeled_pixels"], ["share %", "share"],
  ["predicted pixels", "predicted_pixels"], ["images", "images"],
];

function classTable(column = null, descending = false) {
  const total = content.classes.reduce((sum, row) => sum + row.labeled_pixels, 0);
  const rows = content.classes.map((row, index) => ({ ...row, index, share: row.labeled_pixels / total }));
  if (column !== null) {
    const sign = descending ? -1 : 1;
    rows.sort((a, b) => {
      if (a[column] === null || b[column] === null) return (a[column] === null) - (b[column] === null);
      return sign * (typeof a[column] === "string" ? a[column].localeCompare(b[column]) : a[column] - b[column]);
    });
  }
  const focused = document.activeElement?.dataset?.column;
  const head = COLUMNS.map(([title, key]) => {
    const sorted = column === key;
    return make("th", { scope: "col", "aria-sort": sorted ? (descending ? "descending" : "ascending") : null },
      make("button", { type: "button", "data-column": key,
        onclick: () => classTable(key, sorted ? !descending : key !== "name") }, title));
  });
  byId("class-table").replaceChildren(
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...rows.map((row) => make("tr", {},
      make("th", { scope: "row" }, make("span", { class: "class" }, swatch(row.index), named(row.name))),
      row.iou === null ? make("td", {}, "never seen") : make("td", {}, percent(row.iou, 2), meter(row)),
      make("td", {}, percent(row.boundary_iou, 2)), make("td", {}, percent(row.accuracy, 2)),
      make("td", {}, percent(row.precision, 2)), make("td", {}, count(row.labeled_pixels)),
      make("td", {}, percent(row.share, 2)), make("td", {}, count(row.predicted_pixels)),
      make("td", {}, count(row.images))))));
  if (focused) byId("class-table").querySelector(`[data-column="${focused}"]`).focus();
}

function meter(row) {
  const bar = make("i");
  bar.style.width = `${100 * row.iou}%`;
  const parts = [bar];
  if (row.boundary_iou !== null) {
    parts.push(make("u"));
    parts[1].style.left = `${100 * row.boundary_iou}%`;
  }
  return make("span", { class: "meter", "aria-hidden": "true" }, ...parts);
}

/* The confusion matrix: a grid of which one cell at a time can have the focus. */
function matrix() {
  const table = byId("matrix");
  table.classList.toggle("dense", numClasses > 24);
  table.append(make("thead", {}, make("tr", { role: "row" }, make("th"),
    ...content.classes.map((row) => make("th", { scope: "col", title: visible(row.name) }, named(row.name))))));
  const body = make("tbody");
  content.confusion.forEach((counts, label) => {
    const labeled = counts.reduce((sum, pixels) => sum + pixels, 0);
    body.append(make("tr", { role: "row" },
      make("th", { scope: "row", title: className(label) }, named(className(label))),
      ...counts.map((pixels, prediction) => cell(label, prediction, pixels, labeled))));
  });
  table.append(body);
  table.querySelector("tbody td").tabIndex = 0;
  table.addEventListener("click", (event) => choose(event.target.closest("td[data-label]")));
  table.addEventListener("keydown", moveInMatrix);
}

function cell(label, prediction, pixels, labeled) {
  const share = labeled ? pixels / labeled : 0;
  const images = content.cell_images[label * numClasses + prediction];
  const description = `labeled ${className(label)}, predicted ${className(prediction)}: ${count(pixels)} pixels` +
    `${labeled ? `, ${percent(share, 2)} % of ${className(label)}` : ""}, in ${count(images)} images`;
  const text = numClasses <= 24 && share >= 0.005 ? percent(share, 0) : "";
  const element = make("td", { role: "gridcell", tabindex: -1, "data-label": label, "data-prediction": prediction,
    "data-pixels": pixels > 0 ? pixels : null, "aria-label": description, title: description }, text);
  if (pixels > 0) {
    const strength = 0.12 + 0.88 * (label === prediction ? share : Math.sqrt(share));
    element.style.background = `rgba(var(${label === prediction ? "--right" : "--wrong"}), ${strength.toFixed(3)})`;
    if (strength > 0.62) element.style.color = "var(--accent-ink)";
  }
  return element;
}

function cellAt(label, prediction) {
  return byId("matrix").querySelector(`[data-label="${label}"][data-prediction="${prediction}"]`);
}

function moveInMatrix(event) {
  const from = event.target.closest("td[data-label]");
  if (!from) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    choose(from);
    return;
  }
  const [label, prediction] = [Number(from.dataset.label), Number(from.dataset.prediction)];
  const last = numClasses - 1;
  const target = {
    ArrowUp: [label - 1, prediction], ArrowDown: [label + 1, prediction],
    ArrowLeft: [label, prediction - 1], ArrowRight: [label, prediction + 1],
    Home: [event.ctrlKey ? 0 : label, 0], End: [event.ctrlKey ? last : label, last],
  }[event.key];
  if (!target) return;
  event.preventDefault();
  const to = cellAt(...target.map((place) => Math.min(last, Math.max(0, place))));
  focusable(to);
  to.focus();
}

function focusable(element) {
  for (const other of byId("matrix").querySelectorAll('td[tabindex="0"]')) other.tabIndex = -1;
  element.tabIndex = 0;
}

function choose(element) {
  if (!element?.dataset.pixels) return;
  focusable(element);
  showPair(Number(element.dataset.label), Number(element.dataset.prediction));
}

function confusions() {
  const pairs = [];
  content.confusion.forEach((counts, label) => {
    const labeled = counts.reduce((sum, pixels) => sum + pixels, 0);
    counts.forEach((pixels, prediction) => {
      if (label !== prediction && pixels > 0) pairs.push({ label, prediction, pixels, share: pixels / labeled });
    });
  });
  pairs.sort((a, b) => b.pixels - a.pixels);
  if (pairs.length === 0) {
    byId("confusions").append(make("caption", {}, "None: every labeled pixel is predicted correctly."));
    return;
  }
  byId("confusions").append(
    make("thead", {}, make("tr", {}, ...["labeled → predicted", "pixels", "of the label %", "images"]
      .map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...pairs.slice(0, 12).map(({ label, prediction, pixels, share }) => make("tr", {},
      make("td", {}, make("button", { type: "button", class: "link", onclick: () => showPair(label, prediction) },
        named(className(label)), " → ", named(className(prediction)))),
      make("td", {}, count(pixels)), make("td", {}, percent(share, 1)),
      make("td", {}, count(content.cell_images[label * numClasses + prediction]))))));
}

function pixelsOfPair(image) {
  const place = image.cells.indexOf(view.pair.label * numClasses + view.pair.prediction);
  return place < 0 ? 0 : image.pixels[place];
}

/* Show the images that hold a cell of the confusion matrix. */
function showPair(label, prediction) {
  view.pair = { label, prediction };
  view.right = byId("right").value = label === prediction ? "prediction" : "difference";
  byId("sort").querySelector("[value=cell]").disabled = false;
  byId("sort").value = "cell";
  for (const old of byId("matrix").querySelectorAll("[aria-selected=true]")) old.removeAttribute("aria-selected");
  cellAt(label, prediction).setAttribute("aria-selected", "true");
  arrange();
  byId("filter").focus({ preventScroll: true });
  byId("images").scrollIntoView();
}

function showAll() {
  const { label, prediction } = view.pair;
  view.pair = null;
  view.right = byId("right").value = "prediction";
  byId("sort").querySelector("[value=cell]").disabled = true;
  byId("sort").value = "worst";
  cellAt(label, prediction).removeAttribute("aria-selected");
  arrange();
  byId("sort").focus();
}

function filterText() {
  const box = byId("filter");
  box.hidden = view.pair === null;
  if (view.pair === null) return;
  const { label, prediction } = view.pair;
  const key = label * numClasses + prediction;
  const [all, here] = [content.cell_images[key], state.order.length];
  const hidden = content.cell_names[key] ?? [];
  const difference = label === prediction ? null
    : make("p", {}, "Orange: these pixels. Blue: other errors. Hatched: ignored.");
  box.replaceChildren(
    make("p", {}, `${count(all)} ${all === 1 ? "image holds" : "images hold"} pixels labeled `, named(className(label), "b"),
      " and predicted ", named(className(prediction), "b"), all === here ? "." : `; ${count(here)} of them have a picture here.`),
    difference ?? "",
    hidden.length === 0 ? "" : make("p", {}, "Without a picture, most pixels first: ",
      ...hidden.flatMap((name, i) => [i ? ", " : "", named(name, "code")])),
    make("button", { type: "button", onclick: showAll }, "Show all images"),
    make("button", { type: "button", onclick: () => {
      byId("confusion").scrollIntoView();
      cellAt(label, prediction).focus({ preventScroll: true });
    } }, "Back to the matrix"));
  byId("status").textContent = `${here} images shown`;
}

const ORDERS = {
  worst: (a, b) => (a.iou ?? 2) - (b.iou ?? 2) || a.index - b.index,
  best: (a, b) => (b.iou ?? -1) - (a.iou ?? -1) || a.index - b.index,
  cell: (a, b) => pixelsOfPair(b) - pixelsOfPair(a) || a.index - b.index,
  index: (a, b) => a.index - b.index,
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) || a.index - b.index,
};

/* Choose and sort the images, and fill the grid anew. */
function arrange() {
  const images = view.pair === null ? content.shown : content.shown.filter((image) => pixelsOfPair(image) > 0);
  state.order = [...images].sort(ORDERS[byId("sort").value]);
  state.visible = PER_PAGE;
  byId("grid").replaceChildren();
  fillGrid();
  filterText();
  repaintAll();
}

function fillGrid() {
  const grid = byId("grid");
  for (const [place, image] of state.order.entries()) {
    if (place >= grid.children.length && place < state.visible) grid.append(card(image, place));
  }
  const rest = state.order.length - grid.children.length;
  byId("more").hidden = rest === 0;
  byId("more").textContent = `Show ${Math.min(rest, PER_PAGE)} more of ${rest}`;
}

function card(image, place) {
  const viewer = newViewer(`image-${image.index}`, visible(image.name), [image.width, image.height]);
  return make("article", { class: "card" }, viewer.root,
    make("h3", {}, make("button", { type: "button", class: "link", "aria-haspopup": "dialog", onclick: () => open(place) },
      named(image.name))),
    make("p", {}, make("b", {}, `IoU ${percent(image.iou)}`), ` · accuracy ${percent(image.accuracy)}`,
      view.pair === null ? "" : ` · ${count(pixelsOfPair(image))} pixels of the pair`));
}

/* The large picture of an image, with its confusions. */
function open(place) {
  state.opened = place;
  const image = state.order[place];
  byId("large-title").replaceChildren(named(image.name));
  byId("large-picture").replaceChildren(
    newViewer(`image-${image.index}`, visible(image.name), [image.width, image.height]).root);
  const pairs = image.cells.map((key, i) => ({
    label: Math.floor(key / numClasses), prediction: key % numClasses, pixels: image.pixels[i],
  })).filter(({ label, prediction }) => label !== prediction).sort((a, b) => b.pixels - a.pixels);
  byId("large-facts").replaceChildren(
    make("p", {}, `IoU ${percent(image.iou, 2)} %, accuracy ${percent(image.accuracy, 2)} %, ` +
      `${image.width} × ${image.height} pixels, ${count(image.labeled_pixels)} labeled`),
    make("h3", {}, pairs.length ? "Confusions in this image" : "No pixel is wrong"),
    pairs.length === 0 ? "" : make("table", { class: "compact" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "labeled → predicted"),
        make("th", { scope: "col" }, "pixels"), make("th", { scope: "col" }, "%"))),
      make("tbody", {}, ...pairs.slice(0, 8).map(({ label, prediction, pixels }) => make("tr", {},
        make("td", {}, make("span", { class: "class" }, swatch(label), named(className(label)), " →"), " ",
          make("span", { class: "class" }, swatch(prediction), named(className(prediction)))),
        make("td", {}, count(pixels)), make("td", {}, percent(pixels / image.labeled_pixels, 1)))))));
  byId("previous").disabled = place === 0;
  byId("next").disabled = place === state.order.length - 1;
  if (!byId("large").open) byId("large").showModal();
  byId("large-picture").querySelector("input").focus();
}

function errors() {
  const all = content.suspected_label_errors;
  byId("errors-text").textContent = all === 0
    ? "None: where the model is confident and far from borders, it agrees with the labels."
    : `${count(all)} ${all === 1 ? "region" : "regions"} where the model is confident and the label says something else, ` +
      `ranked by size and confidence${content.errors.length < all ? `; the first ${count(content.errors.length)} are here` : ""}. ` +
      "label_errors.csv lists all of them for the annotators, with an empty column for their verdict.";
  fillErrors();
}

function fillErrors() {
  const list = byId("errors");
  for (const error of content.errors.slice(list.children.length, state.errors)) list.append(errorCard(error));
  const rest = content.errors.length - list.children.length;
  byId("more-errors").hidden = rest === 0;
  byId("more-errors").textContent = `Show ${Math.min(rest, PER_PAGE)} more of ${count(rest)}`;
}

function errorCard(error) {
  const [x, y, width, height] = error.box;
  const picture = error.size ? newViewer(`crop-${error.rank}`, `Suspected error ${error.rank}`, error.size, OF_ERRORS, error.place).root
    : make("p", {}, "No picture of it was kept.");
  return make("article", { class: "card" }, picture,
    make("h3", {}, `${error.rank}. labeled `, swatch(error.label), named(className(error.label), "b"), ", the model sees ",
      swatch(error.prediction), named(className(error.prediction), "b")),
    make("p", {}, `confidence ${percent(error.confidence)} % · ${count(error.pixels)} pixels · x ${x}, y ${y}, ${width} × ${height}`),
    make("p", {}, named(error.name)));
}

function choice() {
  const [here, all] = [content.shown.length, content.images];
  byId("choice").textContent = here === all
    ? `All ${count(all)} images. Move the slider in a picture, with the mouse or the arrow keys; a name opens it large.`
    : `Pictures of ${count(here)} of ${count(all)} images: those with the lowest and the highest IoU, and a random choice ` +
      "of the others. images.csv lists all. Move the slider in a picture, with the mouse or the arrow keys; a name opens it large.";
}

function start() {
  facts();
  numbers();
  classTable();
  matrix();
  confusions();
  choice();
  for (const side of ["left", "right"]) {
    byId(side).append(...Object.entries(LAYERS).map(([value, text]) => make("option", { value }, text)));
    byId(side).value = view[side];
    byId(side).addEventListener("change", (event) => { view[side] = event.target.value; repaintAll(); });
  }
  byId("strength").addEventListener("input", (event) => { view.strength = event.target.value / 100; repaintAll(); });
  byId("sort").addEventListener("change", arrange);
  byId("more").addEventListener("click", () => { state.visible += PER_PAGE; fillGrid(); });
  byId("more-errors").addEventListener("click", () => { state.errors += PER_PAGE; fillErrors(); });
  byId("close").addEventListener("click", () => byId("large").close());
  byId("previous").addEventListener("click", () => open(state.opened - 1));
  byId("next").addEventListener("click", () => open(state.opened + 1));
  const wrong = make("span", { class: "swatch", "aria-hidden": "true" });
  wrong.style.background = `rgb(${WRONG.join(",")})`;
  byId("legend").append(
    ...[...content.classes.keys(), IGNORED].map((index) => make("li", {}, swatch(index), named(className(index)))),
    make("li", {}, wrong, "wrong, in Difference"));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const mark = () => { byId("theme").textContent = isDark() ? "Light theme" : "Dark theme"; };
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    mark();
  });
  mark();
  arrange();
  distanceChart();
  reliabilityChart();
  histogramChart();
  errors();
  document.documentElement.dataset.ready = "true";
}

start();
