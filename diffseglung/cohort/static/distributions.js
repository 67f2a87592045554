// One plot for each measure: a dot for each scan, stacked where values are equal, over the median and, if there are
// enough scans, a box of the quartiles.
const PLOT = { height: 158, left: 14, right: 14, top: 14, floor: 122 };
const SVG = "http://www.w3.org/2000/svg";

function shape(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

function ticks(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 2.5, 5, 10].find(factor => factor * power >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step / 1e6; value += step) found.push(value);
  return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (step / power === 2.5 ? 1 : 0)) };
}

// Linear between the two nearest values, as NumPy's default.
function quantile(ordered, share) {
  const place = (ordered.length - 1) * share, below = Math.floor(place);
  return ordered[below] + (place - below) * ((ordered[below + 1] ?? ordered[below]) - ordered[below]);
}

// Heights of dots at `places` (ascending), stacked on both sides of the middle; tall stacks are compressed.
function piled(places, middle, room, radius) {
  const size = 2 * radius, piles = new Map();
  places.forEach((x, i) => {
    const pile = Math.floor(x / size);
    piles.set(pile, [...(piles.get(pile) ?? []), i]);
  });
  const heights = new Array(places.length);
  for (const pile of piles.values()) {
    const step = Math.min(size, 2 * room / pile.length);
    pile.forEach((i, n) => { heights[i] = middle + (n % 2 ? 1 : -1) * Math.ceil(n / 2) * step; });
  }
  return heights;
}

function plot(column, width) {
  const i = at[column.name], unit = column.unit, found = DATA.spread[column.name];
  const known = scans.filter(scan => scan.values[i] !== null).sort((a, b) => a.values[i] - b.values[i]);
  const box = make("figure", { class: "plot" }), ordered = known.map(scan => scan.values[i]);
  const told = value => `${number(value, column.digits)} ${unit}`;
  const odd = found.outliers.length;
  const summary = !known.length ? "no scan measured"
    : `median ${told(quantile(ordered, 0.5))}, range ${number(ordered[0], column.digits)} to ${told(ordered.at(-1))}`;
  box.append(make("figcaption", {}, make("b", {}, column.title),
    odd ? make("em", {}, `\u25c6 ${odd} outlier${odd > 1 ? "s" : ""}`) : null, make("span", {}, summary)));
  if (!known.length) return box;
  let low = ordered[0], high = ordered.at(-1);
  if (column.meter && low < high / 2) low = 0;
  if (high <= low) [low, high] = column.meter ? [low, low + 1] : [low - 1, high + 1];
  const scale = value => PLOT.left + (value - low) / (high - low) * (width - PLOT.left - PLOT.right);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${PLOT.height}`, tabindex: 0, role: "application",
    "aria-label": `${column.title}, ${known.length} scans: ${summary}, outliers: ${odd}. Use arrow keys to step between scans and Enter to show one.` });
  axis(svg, scale, low, high, width);
  const middle = (PLOT.top + PLOT.floor) / 2, places = ordered.map(scale), radius = known.length > 400 ? 1.9 : 3.2;
  const heights = piled(places, middle, (PLOT.floor - PLOT.top) / 2 - radius, radius);
  const dots = known.map((scan, n) => {
    const x = places[n].toFixed(1), y = heights[n].toFixed(1), r = radius + 1.6;
    const dot = scan.outliers.has(column.name)
      ? shape("path", { d: `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`, class: "dot odd" })
      : shape("circle", { cx: x, cy: y, r: radius, class: "dot" });
    dot.scan = scan;
    return dot;
  });
  const cloud = shape("g", {});
  cloud.style.fill = `var(--${column.meter ?? "dot"})`;
  cloud.append(...dots);
  cloud.style.strokeWidth = radius / 4;
  cloud.style.opacity = known.length > 400 ? 0.6 : 1;
  svg.append(cloud);
  quartiles(svg, scale, ordered, found, low, high);
  listen(svg, dots, dot => `${shownText(dot.scan.get("scan"))}: ${told(dot.scan.values[i])}`
    + (dot.scan.outliers.has(column.name) ? " (outlier)" : ""));
  const faint = () => {
    const inside = new Set(state.rows);
    for (const dot of dots) dot.classList.toggle("faint", !inside.has(dot.scan));
  };
  faints.add(faint);
  faint();
  box.append(svg);
  return box;
}

function axis(svg, scale, low, high, width) {
  const { found, digits } = ticks(low, high);
  svg.append(shape("line", { class: "axis", x1: PLOT.left, x2: width - PLOT.right, y1: PLOT.floor, y2: PLOT.floor }));
  for (const value of found) {
    const x = scale(value);
    svg.append(shape("line", { class: "axis", x1: x, x2: x, y1: PLOT.floor, y2: PLOT.floor + 4 }));
    const anchor = x < 30 ? "start" : x > width - 30 ? "end" : "middle";
    svg.append(shape("text", { x, y: PLOT.floor + 18, "text-anchor": anchor }, number(value, digits)));
  }
}

function quartiles(svg, scale, ordered, found, low, high) {
  const [first, middle, third] = [0.25, 0.5, 0.75].map(share => scale(quantile(ordered, share)));
  const top = PLOT.top, height = PLOT.floor - PLOT.top - 4;
  const box = { class: "box", x: first, y: top, width: Math.max(1, third - first), height, rx: 3 };
  if (ordered.length >= DATA.fewest) svg.append(shape("rect", box));
  svg.append(shape("line", { class: "median", x1: middle, x2: middle, y1: top, y2: top + height }));
  for (const limit of [found.low, found.high]) {
    if (limit === null || limit <= low || limit >= high) continue;
    svg.append(shape("line", { class: "limit", x1: scale(limit), x2: scale(limit), y1: top, y2: PLOT.floor }));
  }
}

function listen(svg, dots, told) {
  const tip = $("tip");
  let current = -1;
  const show = n => {
    dots[current]?.classList.remove("current");
    current = n;
    tip.hidden = n < 0;
    if (n < 0) return;
    dots[n].classList.add("current");
    tip.textContent = told(dots[n]);
    const place = dots[n].getBoundingClientRect(), wide = tip.offsetWidth;
    tip.style.left = `${Math.max(4, Math.min(innerWidth - wide - 8, place.x + place.width / 2 - wide / 2))}px`;
    tip.style.top = `${Math.max(4, place.y - tip.offsetHeight - 8)}px`;
  };
  svg.addEventListener("pointerover", event => { if (event.target.scan) show(dots.indexOf(event.target)); });
  svg.addEventListener("pointerleave", () => show(-1));
  svg.addEventListener("blur", () => show(-1));
  svg.addEventListener("focus", () => { if (current < 0 && svg.matches(":focus-visible")) show(0); });
  svg.addEventListener("click", event => { if (event.target.scan) { show(-1); jumpTo(event.target.scan.index); } });
  svg.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity }[event.key];
    if (step !== undefined) show(Math.max(0, Math.min(dots.length - 1, current + step)));
    else if (event.key === "Escape") return show(-1);
    else if (event.key === "Enter" && current >= 0) { const { scan } = dots[current]; show(-1); jumpTo(scan.index); }
    else return;
    event.preventDefault();
  });
}

// Plots are drawn when they are about to be visible, and updated one by one when typing has stopped.
const faints = new Set();
let behind = [], waiting = 0;
document.addEventListener("filtered", () => {
  clearTimeout(waiting);
  behind = [...faints];
  waiting = setTimeout(follow, 250);
});
function follow() {
  behind.shift()?.();
  if (behind.length) waiting = setTimeout(follow);
}
const fill = place => place.replaceWith(plot(DATA.columns[at[place.dataset.name]], Math.max(220, place.clientWidth - 30)));
const near = new IntersectionObserver(seen => {
  for (const { isIntersecting, target } of seen) {
    if (!isIntersecting) continue;
    near.unobserve(target);
    fill(target);
  }
}, { rootMargin: "400px" });
for (const name of Object.keys(DATA.spread)) {
  const place = make("figure", { class: "plot empty", "data-name": name });
  $("plots").append(place);
  near.observe(place);
}
addEventListener("beforeprint", () => $("plots").querySelectorAll(".empty").forEach(
  place => { near.unobserve(place); fill(place); }));
