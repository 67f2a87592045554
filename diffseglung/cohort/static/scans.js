// The scans, sorted and filtered, as a table or as pictures. Text from files is set by textContent only.
const DATA = JSON.parse(document.getElementById("data").textContent);
const CHUNK = { table: 50, gallery: 24 };
const at = Object.fromEntries(DATA.columns.map((column, i) => [column.name, i]));
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const $ = id => document.getElementById(id);

// Control and direction characters, made visible so that they cannot change how other text is displayed.
const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const shownText = text => String(text).replace(HIDDEN,
  c => "\u2039U+" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "\u203a");

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null) element.append(child);
  return element;
}

const numbers = {};
function number(value, digits) {
  numbers[digits] ??= new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return numbers[digits].format(value).replace("-", "\u2212");
}
function words(column, value) {
  if (value === null) return "\u2013";
  return column.text ? shownText(value) : number(value, column.digits);
}

const scans = DATA.rows.map((values, index) => {
  const get = name => values[at[name]];
  const outliers = new Set();
  for (const [name, found] of Object.entries(DATA.spread)) if (found.outliers.includes(index)) outliers.add(name);
  const hay = ["scan", "input", "status", "error", "warnings", "method"].map(n => get(n) ?? "").join("\n").toLowerCase();
  const folder = DATA.folders[index], files = DATA.files[index];
  const target = get("status") !== "done" ? null
    : folder + (files & 2 ? "/report.html" : files & 1 ? "/preview.png" : "/");
  return { index, values, get, outliers, hay, target, picture: files & 1 ? folder + "/preview.png" : null,
           warned: DATA.warned[index], said: DATA.said[index] };
});

const state = {
  view: "table", sort: null, down: false, drawn: 0, rows: scans,
  columns: new Set(DATA.columns.filter(column => column.shown).map(column => column.name)),
};

// ---- filtering and sorting

function chosen() {
  const text = $("text").value.trim().toLowerCase(), status = $("status").value, warning = $("warning").value;
  const least = parseFloat($("least").value), share = at[$("class").value], odd = $("outliers").checked;
  return scans.filter(scan =>
    (!text || scan.hay.includes(text)) &&
    (!status || scan.get("status") === status) &&
    (!warning || (warning === "any" ? scan.warned.length : warning === "none" ? !scan.warned.length
      : scan.warned.includes(Number(warning)))) &&
    (Number.isNaN(least) || (scan.values[share] !== null && scan.values[share] >= least)) &&
    (!odd || scan.outliers.size));
}

function sorted(rows) {
  if (state.sort === null) return state.down ? [...rows].reverse() : rows;
  const i = at[state.sort], sign = state.down ? -1 : 1;
  const compare = DATA.columns[i].text ? collator.compare : (a, b) => a - b;
  return [...rows].sort((a, b) => {
    const x = a.values[i], y = b.values[i];
    if (x === null || y === null) return (x === null) - (y === null) || a.index - b.index;
    return sign * compare(x, y) || a.index - b.index;
  });
}

function refresh() {
  state.rows = sorted(chosen());
  state.drawn = 0;
  $("shown").textContent = `${state.rows.length} of ${scans.length} scans`;
  (state.view === "table" ? $("table") : $("scans")).append($("more"));
  $("table").querySelector("tbody").replaceChildren();
  $("gallery").replaceChildren();
  $("table").hidden = state.view !== "table";
  $("gallery").hidden = state.view !== "gallery";
  $("choose").hidden = state.view !== "table";
  $("as-table").setAttribute("aria-pressed", state.view === "table");
  $("as-gallery").setAttribute("aria-pressed", state.view === "gallery");
  $("sort").value = state.sort ?? "";
  $("turn").textContent = state.down ? "\u2193 descending" : "\u2191 ascending";
  for (const head of $("table").querySelectorAll("th[aria-sort]")) {
    const own = head.dataset.name === state.sort;
    head.setAttribute("aria-sort", !own ? "none" : state.down ? "descending" : "ascending");
  }
  draw();
  document.dispatchEvent(new CustomEvent("filtered"));
}

function draw(count = CHUNK[state.view]) {
  const next = state.rows.slice(state.drawn, state.drawn + count);
  const place = state.view === "table" ? $("table").querySelector("tbody") : $("gallery");
  place.append(...next.map(state.view === "table" ? line : card));
  state.drawn += next.length;
  $("more").hidden = state.drawn >= state.rows.length;
  atEnd.unobserve($("more"));  // observing it again reports again whether it is visible
  atEnd.observe($("more"));
}
const atEnd = new IntersectionObserver(seen => {
  if (seen.at(-1).isIntersecting && state.drawn < state.rows.length) draw();
}, { rootMargin: "600px" });

function sortBy(name) {
  if (state.sort === name) state.down = !state.down;
  else [state.sort, state.down] = [name, name !== null && !DATA.columns[at[name]].text];
  refresh();
}

// ---- the table

const visible = () => DATA.display.filter(name => state.columns.has(name)).map(name => DATA.columns[at[name]]);

function heads() {
  $("table").querySelector("thead").replaceChildren(make("tr", {}, visible().map(column => {
    const button = make("button", { type: "button", title: column.note || null }, column.title);
    if (column.unit) button.append(make("small", {}, column.unit));
    button.addEventListener("click", () => sortBy(column.name));
    return make("th", { scope: "col", "aria-sort": "none", "data-name": column.name,
                        class: column.text ? "text" : null }, button);
  })));
}

function line(scan) {
  return make("tr", { id: `scan-${scan.index}`, tabindex: -1 }, visible().map(column => cell(scan, column)));
}

function cell(scan, column) {
  const value = scan.get(column.name);
  if (column.name === "scan") return make("th", { scope: "row" }, link(scan));
  if (column.name === "status") return make("td", { class: "text" }, badge(value));
  if (column.name === "warnings") return make("td", { class: "text said" }, notes(scan));
  if (column.text) return make("td", { class: "text said" }, words(column, value));
  const found = make("td", { class: value === null ? "unknown" : null }, words(column, value));
  if (scan.outliers.has(column.name)) found.prepend(mark(column));
  if (column.meter && value !== null) {
    found.classList.add("meter");
    found.style.setProperty("--share", `${Math.min(100, value)}%`);
    found.style.setProperty("--colour", `var(--${column.meter})`);
  }
  return found;
}

const badge = status => make("span", { class: `badge ${status}` }, DATA.statuses[status] ?? shownText(status));
const mark = column => make("span", { class: "outlier", title: `outlier: ${column.title}`, role: "img",
                                      "aria-label": "outlier" }, "\u25c6");

function link(scan) {
  const name = shownText(scan.get("scan"));
  return scan.target ? make("a", { href: scan.target, class: "name" }, name) : make("span", { class: "name" }, name);
}

function notes(scan) {
  const all = scan.get("error") ?? scan.get("warnings");
  if (all === null) return null;
  const short = scan.said || all;
  const cut = short.length > 120 ? short.slice(0, 117) + "..." : short;
  return make("span", { title: shownText(all), class: scan.get("error") ? "bad" : "note" }, shownText(cut));
}

// ---- the pictures

function card(scan) {
  const item = make("li", { id: `scan-${scan.index}`, tabindex: -1 }), name = shownText(scan.get("scan"));
  const failed = scan.get("status") === "failed";
  if (scan.picture) {
    const image = make("img", { loading: "lazy", decoding: "async", width: 1920, height: 1080, src: scan.picture,
                                alt: `${name}: six planes with labels` });
    item.append(make("a", { href: scan.target, tabindex: -1 }, image));
  } else {
    item.append(make("div", { class: "blank" }, failed ? "failed" : scan.target ? "no picture" : "waiting"));
  }
  const body = make("div", { class: "body" }, make("div", { class: "title" }, link(scan), badge(scan.get("status"))));
  if (scan.get("lung_ml") !== null) body.append(tissue(scan));
  const said = notes(scan);
  if (said) body.append(make("p", { class: "said" }, said));
  item.append(body);
  return item;
}

function tissue(scan) {
  const stack = make("div", { class: "stack", "aria-hidden": "true" }), list = make("ul", { class: "shares" });
  for (const item of DATA.classes) {
    const share = scan.get(`${item.name}_percent`);
    if (share === null) continue;
    const part = make("i");
    part.style.width = `${share}%`;
    part.style.background = `var(--${item.name})`;
    stack.append(part);
    const key = make("i", { class: "key" });
    key.style.background = `var(--${item.name})`;
    const odd = scan.outliers.has(`${item.name}_percent`);
    list.append(make("li", {}, key, `${item.title} ${number(share, 1)} %`, odd ? mark(item) : null));
  }
  const volume = make("li", {}, `Lungs ${number(scan.get("lung_ml") / 1000, 2)} L`);
  if (scan.outliers.has("lung_ml")) volume.append(mark({ title: "Lung volume" }));
  list.append(volume);
  return [stack, list].reduce((box, part) => (box.append(part), box), make("div"));
}

// ---- going to a scan

function jumpTo(index) {
  let position = state.rows.findIndex(scan => scan.index === index);
  if (position < 0) {
    $("tools").reset();
    refresh();
    position = state.rows.findIndex(scan => scan.index === index);
  }
  if (position >= state.drawn) draw(position + 1 - state.drawn);
  const found = $(`scan-${index}`);
  found.scrollIntoView({ block: "center" });
  found.focus({ preventScroll: true });
  document.querySelectorAll(".found").forEach(other => other.classList.remove("found"));
  found.classList.add("found");
}

// ---- totals, warnings, failures

function totals() {
  for (const { title, value, note, href, kind } of DATA.totals) {
    $("totals").append(make(href ? "a" : "div", { href: href || null, class: `tile ${kind}` },
      make("b", {}, value), make("span", {}, title), note ? make("small", {}, note) : null));
  }
}

function warnings() {
  if (!DATA.kinds.length) return $("warnings").append(make("p", { class: "dim" }, "No warnings."));
  $("warnings").append(make("table", { class: "plain" }, make("tbody", {}, DATA.kinds.map((kind, i) => {
    const button = make("button", { type: "button", class: "quiet" }, shownText(kind.name));
    button.addEventListener("click", () => {
      $("tools").reset();
      $("warning").value = i;
      refresh();
      $("scans").scrollIntoView();
      $("warning").focus({ preventScroll: true });
    });
    const share = `${number(100 * kind.count / Math.max(1, DATA.done), 0)} %`;
    return make("tr", {}, make("td", { class: "count" }, String(kind.count)), make("td", { class: "count dim" }, share),
                make("td", {}, button));
  }))));
}

function failures() {
  const failed = scans.filter(scan => scan.get("status") === "failed");
  if (!failed.length) return $("failures").append(make("p", { class: "dim" }, "No scan failed."));
  const box = make("details", { open: failed.length <= 20 }, make("summary", {}, `${failed.length} failed`));
  const fill = () => box.childElementCount < 2 && box.append(make("div", { class: "frame" },
    make("table", { class: "plain" },
      make("thead", {}, make("tr", {}, ["Scan", "Reason", "Input"].map(t => make("th", { scope: "col" }, t)))),
      make("tbody", {}, failed.map(scan => make("tr", {}, ["scan", "error", "input"].map(name =>
        make("td", {}, words(DATA.columns[at[name]], scan.get(name))))))))));
  box.addEventListener("toggle", fill);
  if (box.open) fill();
  $("failures").append(box);
}

// ---- saving

function saveShown() {
  const quoted = value => {
    if (value === null) return "";
    const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? "'" + value : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [DATA.columns.map(column => column.name), ...state.rows.map(scan => scan.values)];
  const blob = new Blob([lines.map(line => line.map(quoted).join(",") + "\n").join("")], { type: "text/csv" });
  const anchor = make("a", { href: URL.createObjectURL(blob), download: "cohort_shown.csv" });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
}

// ---- setting up

function options(id, pairs) {
  $(id).append(...pairs.map(([value, text]) => make("option", { value }, text)));
}

function start() {
  options("status", [["", "any"], ...Object.entries(DATA.statuses)]);
  options("warning", [["", "any or none"], ["any", "with warnings"], ["none", "without warnings"],
    ...DATA.kinds.map((kind, i) => [i, `${shownText(kind.name).slice(0, 60)} (${kind.count})`])]);
  options("class", DATA.shares.map(name => [name, DATA.columns[at[name]].title]));
  options("sort", [["", "order of the input"], ...DATA.columns.map(c => [c.name, c.unit ? `${c.title} (${c.unit})` : c.title])]);
  for (const name of DATA.display.slice(1)) {
    const column = DATA.columns[at[name]];
    const box = make("input", { type: "checkbox", checked: column.shown });
    box.addEventListener("change", () => {
      state.columns[box.checked ? "add" : "delete"](column.name);
      heads();
      refresh();
    });
    $("columns").append(make("label", {}, box, ` ${column.title}`, column.unit ? make("small", {}, column.unit) : null));
  }
  for (const id of ["text", "least"]) $(id).addEventListener("input", refresh);
  for (const id of ["status", "warning", "class", "outliers"]) $(id).addEventListener("change", refresh);
  $("tools").addEventListener("submit", event => event.preventDefault());
  $("clear").addEventListener("click", () => { $("tools").reset(); refresh(); });
  $("sort").addEventListener("change", () => sortBy($("sort").value || null));
  $("turn").addEventListener("click", () => { state.down = !state.down; refresh(); });
  $("as-table").addEventListener("click", () => { state.view = "table"; refresh(); });
  $("as-gallery").addEventListener("click", () => { state.view = "gallery"; refresh(); });
  $("more").querySelector("button").addEventListener("click", () => draw());
  $("save").addEventListener("click", saveShown);
  addEventListener("beforeprint", () => { if (state.view === "table") draw(state.rows.length); });
  totals();
  warnings();
  failures();
  heads();
  refresh();
}
start();
