"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const view = at("view"), profile = at("profile"), slider = at("slice"), opacity = at("opacity");
  const unsure = at("uncertainty");
  const colours = new Map(data.classes.map((c) => [c.id, c.colour]));
  const shown = new Map(data.classes.map((c) => [c.id, true]));
  const state = { plane: 0, window: "lung", index: data.stacks.map(() => 0), wanted: 0, drawn: 0 };
  const stack = () => data.stacks[state.plane];

  // pictures: decoded when needed, the last few kept
  const kept = new Map();
  function pixels(kind, index) {
    const key = `${state.plane}/${kind}/${index}`;
    if (!kept.has(key)) {
      const list = stack()[kind];
      kept.set(key, list ? unpack(list[index], kind === "ct" ? "jpeg" : "png") : Promise.resolve(null));
      if (kept.size > 90) kept.delete(kept.keys().next().value);
    }
    return kept.get(key);
  }
  function unpack(base64, form) {
    return new Promise((resolve, reject) => {
      const image = new Image();
      image.onload = () => {
        const canvas = document.createElement("canvas");
        canvas.width = image.width;
        canvas.height = image.height;
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(image, 0, 0);
        resolve({ width: image.width, height: image.height, data: context.getImageData(0, 0, image.width, image.height).data });
      };
      image.onerror = () => reject(new Error("a picture of the report is damaged"));
      image.src = `data:image/${form};base64,${base64}`;
    });
  }

  // one slice: grey levels by the window, with colours on top
  async function draw() {
    const turn = ++state.wanted, index = state.index[state.plane];
    const [ct, labels, sure] = await Promise.all(["ct", "labels", "certainty"].map((kind) => pixels(kind, index)));
    if (turn !== state.wanted) return;
    state.drawn = turn;
    const [columns, rows] = stack().size;
    const out = new ImageData(columns, rows);
    const [low, high] = data.windows[state.window];
    const grey = new Uint8ClampedArray(256);
    for (let k = 0; k < 256; k++) grey[k] = 255 * (data.hu_low + data.hu_step * (k + 0.5) - low) / (high - low);
    const alpha = opacity.value / 100, doubt = unsure && unsure.checked && sure;
    for (let y = 0, p = 0; y < rows; y++) for (let x = 0; x < columns; x++, p++) {
      const base = grey[ct.data[4 * p]], id = Math.round(labels.data[4 * p] / data.label_step);
      let colour = null, strength = alpha;
      if (doubt && id) {
        const q = 4 * (Math.min(y >> 1, sure.height - 1) * sure.width + Math.min(x >> 1, sure.width - 1));
        const level = sure.data[q]; // 0 is outside the lungs
        const d = level ? Math.min(1, (255 - level) / 153) : 0; // 0 certain, 1 if the best class has 40 % or less
        colour = [255, 255 * (1 - d) + 60 * d, 120 * (1 - d)];
        strength = alpha * 1.6 * d;
      } else if (!doubt && id && shown.get(id)) colour = colours.get(id) || [150, 150, 150];
      if (!doubt && id === 1) strength = alpha * 0.4;
      strength = Math.min(1, strength);
      for (let c = 0; c < 3; c++) out.data[4 * p + c] = colour ? base * (1 - strength) + colour[c] * strength : base;
      out.data[4 * p + 3] = 255;
    }
    paint(out);
  }
  function paint(image) {
    const [down, across] = stack().pixel_mm, factor = Math.max(1, Math.round(900 / image.width));
    const small = document.createElement("canvas");
    small.width = image.width;
    small.height = image.height;
    small.getContext("2d").putImageData(image, 0, 0);
    view.width = image.width * factor;
    view.height = Math.round(image.height * factor * down / across);
    const context = view.getContext("2d");
    context.imageSmoothingEnabled = true;
    context.drawImage(small, 0, 0, view.width, view.height);
    view.dataset.drawn = state.drawn;
    size();
  }
  function size() {
    const widthMm = stack().size[0] * stack().pixel_mm[1];
    const shownWidth = Math.min(view.clientWidth, view.clientHeight * view.width / view.height);
    at("scale").style.width = `${50 * shownWidth / widthMm}px`;
  }

  // position
  function position() {
    const list = stack(), index = state.index[state.plane], number = list.numbers[index];
    slider.max = list.ct.length - 1;
    slider.value = index;
    let text = `${list.name} ${number} of ${list.total}`;
    if (state.plane === 0) {
      const row = data.amounts[data.first - number] || [];
      const found = data.lesions.map((id, k) => [data.classes.find((c) => c.id === id).title, row[k] || 0]).filter(([, ml]) => ml >= 0.05);
      text += found.length ? `: ${found.map(([title, ml]) => `${title} ${ml.toFixed(1)} mL`).join(", ")}` : ": no findings";
    }
    at("where").textContent = text;
    view.setAttribute("aria-label", `Slice of the CT with its labels, ${text}`);
    ["left", "right", "top", "bottom"].forEach((side, k) => { at(`side-${side}`).textContent = list.sides[k]; });
    drawProfile();
    draw();
  }
  function go(index) {
    state.index[state.plane] = Math.max(0, Math.min(stack().ct.length - 1, Math.round(index)));
    position();
  }
  const move = (step) => go(state.index[state.plane] + step);

  // findings slice by slice, head to feet, beside the axial slices
  function drawProfile() {
    const ratio = window.devicePixelRatio || 1;
    profile.width = Math.max(1, Math.round(profile.clientWidth * ratio));
    profile.height = Math.max(1, Math.round(profile.clientHeight * ratio));
    const context = profile.getContext("2d"), count = data.amounts.length;
    const most = Math.max(...data.amounts.map((row) => row.reduce((a, b) => a + b, 0)), 0.1);
    const tall = profile.height / count;
    data.amounts.forEach((row, k) => {
      let x = 0;
      row.forEach((ml, c) => {
        const wide = ml / most * profile.width * 0.94;
        context.fillStyle = `rgb(${colours.get(data.lesions[c]).join(",")})`;
        context.fillRect(x, k * tall, wide, Math.max(1, tall));
        x += wide;
      });
    });
    if (state.plane === 0) {
      const y = (data.first - stack().numbers[state.index[0]] + 0.5) * tall;
      context.fillStyle = "#f2f2f2";
      context.fillRect(0, y - ratio, profile.width, 2 * ratio);
    }
  }
  function nearest(number) { // the axial picture nearest to a slice of the scan
    const numbers = data.stacks[0].numbers;
    return numbers.reduce((best, n, k) => (Math.abs(n - number) < Math.abs(numbers[best] - number) ? k : best), 0);
  }
  function mostDisease() {
    const sums = data.amounts.map((row) => row.reduce((a, b) => a + b, 0));
    return nearest(data.first - sums.indexOf(Math.max(...sums)));
  }

  // controls
  function press(selector, chosen) {
    document.querySelectorAll(selector).forEach((b) => b.setAttribute("aria-pressed", String(b === chosen)));
  }
  function setPlane(plane) {
    state.plane = plane;
    press("[data-plane]", document.querySelector(`[data-plane="${plane}"]`));
    position();
  }
  function setWindow(name) {
    state.window = name;
    press("[data-window]", document.querySelector(`[data-window="${name}"]`));
    draw();
  }
  document.querySelectorAll("[data-plane]").forEach((b) => b.addEventListener("click", () => setPlane(Number(b.dataset.plane))));
  document.querySelectorAll("[data-window]").forEach((b) => b.addEventListener("click", () => setWindow(b.dataset.window)));
  const boxes = [...document.querySelectorAll("input[data-class]")];
  boxes.forEach((box) => {
    const apply = () => {
      shown.set(Number(box.dataset.class), box.checked);
      document.querySelectorAll(`.curve[data-class="${box.dataset.class}"]`).forEach((c) => c.classList.toggle("off", !box.checked && box.dataset.class !== "1"));
    };
    apply();
    box.addEventListener("change", () => { apply(); draw(); });
  });
  if (unsure) unsure.addEventListener("change", draw);
  opacity.addEventListener("input", draw);
  slider.addEventListener("input", () => go(Number(slider.value)));
  profile.addEventListener("click", (event) => {
    if (state.plane !== 0) setPlane(0);
    go(nearest(data.first - Math.floor(event.offsetY / profile.clientHeight * data.amounts.length)));
  });
  view.addEventListener("wheel", (event) => { event.preventDefault(); move(Math.sign(event.deltaY)); }, { passive: false });
  let drag = null;
  view.addEventListener("pointerdown", (event) => { drag = { y: event.clientY, index: state.index[state.plane] }; view.setPointerCapture(event.pointerId); });
  view.addEventListener("pointermove", (event) => { if (drag) go(drag.index + (event.clientY - drag.y) / 4); });
  ["pointerup", "pointercancel"].forEach((name) => view.addEventListener(name, () => { drag = null; }));
  document.querySelectorAll("[data-copy]").forEach((button) => button.addEventListener("click", () => {
    const range = document.createRange();
    range.selectNodeContents(at(button.dataset.copy));
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    const done = () => { button.textContent = "copied"; };
    if (navigator.clipboard) navigator.clipboard.writeText(at(button.dataset.copy).textContent).then(done, () => {});
    else if (document.execCommand("copy")) done();
  }));
  let last = opacity.value;
  const keys = {
    ArrowDown: () => move(1), ArrowUp: () => move(-1), PageDown: () => move(10), PageUp: () => move(-10),
    Home: () => go(0), End: () => go(Infinity), p: () => setPlane(1 - state.plane),
    n: () => { setPlane(0); go(mostDisease()); },
    w: () => { const names = Object.keys(data.windows); setWindow(names[(names.indexOf(state.window) + 1) % names.length]); },
    o: () => { const now = Number(opacity.value); opacity.value = now ? 0 : last || 45; last = now || last; draw(); },
    u: () => { if (unsure) unsure.click(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target !== view && event.key.length > 1 && !["BODY", "CANVAS"].includes(event.target.tagName)) return;
    const box = boxes.find((b) => b.dataset.class === event.key);
    if (box) box.click();
    else if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  window.addEventListener("resize", () => { drawProfile(); size(); });
  window.matchMedia("print").addEventListener("change", size);
  state.index[1] = Math.floor(data.stacks[1].ct.length / 2);
  go(mostDisease());
})();
