/* Charts, each with its numbers as a table. */

const WIDTH = 420;
const HEIGHT = 270;
const EDGE = { left: 40, right: 12, top: 28, bottom: 44 };

function across(share) {
  return EDGE.left + share * (WIDTH - EDGE.left - EDGE.right);
}

function up(share) {
  return HEIGHT - EDGE.bottom - share * (HEIGHT - EDGE.top - EDGE.bottom);
}

function percent(share, digits = 1) {
  return share === null ? "–" : (100 * share).toFixed(digits);
}

function count(number) {
  return number.toLocaleString("en-US");
}

/* A frame with lines at round values from `low` to 1, and names of the axes. */
function newChart(title, xName, yName, low = 0) {
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  const step = (1 - low) / 5;
  for (let i = 0; i <= 5; i++) {
    const value = low + i * step;
    svg.append(
      make("line", { class: "gridline", x1: across(0), x2: across(1), y1: up(i / 5), y2: up(i / 5) }),
      make("text", { x: across(0) - 7, y: up(i / 5) + 4, "text-anchor": "end" }, percent(value, 0)),
    );
  }
  svg.append(
    make("text", { x: 0, y: 12 }, yName),
    make("text", { x: across(0.5), y: HEIGHT - 6, "text-anchor": "middle" }, xName),
    make("line", { class: "axis", x1: across(0), x2: across(1), y1: up(0), y2: up(0) }),
  );
  return svg;
}

function tableOf(columns, rows) {
  return make("details", {}, make("summary", {}, "Numbers"), make("div", { class: "scroll" },
    make("table", { class: "compact" },
      make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...rows.map((row) => make("tr", {},
        ...row.map((cell) => make("td", {}, cell))))))));
}

function bandName({ from, to }) {
  if (to === null) return `> ${from - 1}`;
  return from === to ? `${from}` : `${from}–${to}`;
}

function distanceChart() {
  const bands = content.accuracy_by_distance;
  const lowest = Math.min(...bands.map((band) => band.accuracy ?? 1));
  const low = [0.95, 0.9, 0.75, 0.5, 0].find((value) => value <= lowest);
  const chart = newChart("Accuracy by distance to a border", "distance to a border, pixels",
    "accuracy %", low);
  const places = bands.map((band, i) => ({
    x: across((i + 0.5) / bands.length),
    y: band.accuracy === null ? null : up((band.accuracy - low) / (1 - low)),
    band,
  }));
  const points = places.filter(({ y }) => y !== null);
  chart.append(make("path", { class: "stroke", d: `M${points.map(({ x, y }) => `${x},${y}`).join("L")}` }));
  for (const { x, y, band } of places) {
    chart.append(make("text", { x, y: HEIGHT - 25, "text-anchor": "middle" }, bandName(band)));
    if (y === null) continue;
    chart.append(
      make("circle", { class: "fill", cx: x, cy: y, r: 5 },
        make("title", {}, `${bandName(band)} pixels: ${percent(band.accuracy, 2)} % of ${count(band.pixels)}`)),
      make("text", { class: "value", x, y: y - 10, "text-anchor": "middle" }, percent(band.accuracy)),
    );
  }
  document.getElementById("distance-chart").append(chart, tableOf(["distance", "accuracy %", "pixels"],
    bands.map((band) => [bandName(band), percent(band.accuracy, 2), count(band.pixels)])));
}

function reliabilityChart() {
  const bins = content.reliability;
  const total = bins.reduce((sum, bin) => sum + bin.pixels, 0);
  const chart = newChart("Accuracy by confidence", "confidence of the predicted class, %", "accuracy %");
  const name = (bin) => `${percent(bin.from, 0)}–${percent(bin.to, 0)}`;
  for (const bin of bins) {
    if (bin.accuracy === null) continue;
    chart.append(make("rect", {
      class: bin.pixels / total < 0.001 ? "pale" : "fill", x: across(bin.from) + 1, y: up(bin.accuracy),
      width: across(bin.to) - across(bin.from) - 2, height: up(0) - up(bin.accuracy),
    }, make("title", {}, `confidence ${name(bin)} %: right in ${percent(bin.accuracy)} % of ${count(bin.pixels)} pixels`)));
  }
  for (const tick of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
    chart.append(make("text", { x: across(tick), y: HEIGHT - 25, "text-anchor": "middle" }, percent(tick, 0)));
  }
  const ece = content.calibration_error;
  chart.append(
    make("line", { class: "ideal", x1: across(0), y1: up(0), x2: across(1), y2: up(1) }),
    make("text", { class: "ideal-text", x: across(0.02), y: up(0.93) }, "dashed: as often right as it says"),
    make("text", { class: "value", x: across(0.02), y: up(0.84) }, `calibration error ${percent(ece, 2)} %`),
    make("text", { x: across(0.02), y: up(0.75) }, "pale bars: under 0.1 % of the pixels"),
  );
  document.getElementById("reliability-chart").append(chart, tableOf(
    ["confidence %", "mean confidence %", "accuracy %", "pixels", "share %"],
    bins.map((bin) => [name(bin), percent(bin.confidence), percent(bin.accuracy), count(bin.pixels),
      percent(bin.pixels / total, 2)])));
}

function histogramChart() {
  const bins = content.histogram;
  const highest = Math.max(1, ...bins);
  const chart = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Number of images by IoU" });
  bins.forEach((images, i) => {
    const [from, to] = [i / bins.length, (i + 1) / bins.length];
    if (images > 0) {
      chart.append(
        make("rect", { class: "fill", x: across(from) + 1, width: across(to) - across(from) - 2,
          y: up(images / highest), height: up(0) - up(images / highest) },
        make("title", {}, `IoU ${percent(from, 0)}–${percent(to, 0)} %: ${images} images`)),
        make("text", { x: across((from + to) / 2), y: up(images / highest) - 5, "text-anchor": "middle" },
          count(images)));
    }
  });
  for (const tick of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
    chart.append(make("text", { x: across(tick), y: HEIGHT - 25, "text-anchor": "middle" }, percent(tick, 0)));
  }
  chart.append(
    make("line", { class: "axis", x1: across(0), x2: across(1), y1: up(0), y2: up(0) }),
    make("text", { x: across(0.5), y: HEIGHT - 6, "text-anchor": "middle" }, "IoU of an image, %"),
    make("text", { x: 0, y: 12 }, "images"));
  document.getElementById("histogram-chart").append(chart, tableOf(["IoU %", "images"],
    bins.map((images, i) => [`${percent(i / bins.length, 0)}–${percent((i + 1) / bins.length, 0)}`, count(images)])));
}
