"use strict";
/* The page of `diffseglung view`. Text from files is set by textContent only. */
(() => {
  const { Niivue, SLICE_TYPE, DRAG_MODE, SHOW_RENDER } = window.niivue ?? {};
  const WINDOWS = [["lung", -600, 1500], ["mediastinum", 40, 400], ["emphysema", -800, 400]]; // level, width (HU)
  const LAYOUTS = [["planes and 3D", "all"], ["axial", "axial"], ["coronal", "coronal"], ["sagittal", "sagittal"], ["3D", "space"]];
  const HEALTHY = 1;
  const SPACE_PAUSE_MS = 120; // the 3D view, slowest to draw, is updated when the crosshair rests
  const VEIL = { planes: 0.3, space: 0.012 }; // opacity of healthy lung relative to lesions
  const OPTIONS = {
    logLevel: "silent", dragAndDropEnabled: false, loadingText: "", backColor: [0, 0, 0, 1], crosshairColor: [1, 0.76, 0.3, 0.8],
    fontColor: [1, 0.62, 0, 1], fontMinPx: 16, fontSizeScaling: 0.15, crosshairWidthUnit: "percent", crosshairWidth: 0.25,
    crosshairGap: 16, isRadiologicalConvention: true, sagittalNoseLeft: true, showAllOrientationMarkers: true,
  };
  const by = (id) => document.getElementById(id);
  const off = new Set();
  let facts, planes, space, toVoxel, pause, layout = 0, windowIndex = 0, strength = 45, lastStrength = 45, voxel = [0, 0, 0];

  const make = (tag, text, properties = {}) => Object.assign(document.createElement(tag), { textContent: text ?? "" }, properties);
  const number = (value, digits, unit) => value == null ? "–"
    : `${value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits, roundingMode: "halfEven" })} ${unit}`.replace("-", "−");
  const percent = (fraction) => number(fraction == null ? null : 100 * fraction, 1, "%");
  const say = (text) => { document.body.dataset.state = "failed"; by("message").textContent = text; };

  /* ---- geometry: voxels (z, y, x) of the file, LPS mm of the facts, RAS mm of NiiVue ---- */

  function inverse(a) { // of a 4 x 4 affine
    const [[a0, a1, a2, t0], [b0, b1, b2, t1], [c0, c1, c2, t2]] = a;
    const d = a0 * (b1 * c2 - b2 * c1) - a1 * (b0 * c2 - b2 * c0) + a2 * (b0 * c1 - b1 * c0);
    const m = [
      [b1 * c2 - b2 * c1, a2 * c1 - a1 * c2, a1 * b2 - a2 * b1],
      [b2 * c0 - b0 * c2, a0 * c2 - a2 * c0, a2 * b0 - a0 * b2],
      [b0 * c1 - b1 * c0, a1 * c0 - a0 * c1, a0 * b1 - a1 * b0],
    ].map((row) => row.map((value) => value / d));
    return m.map((row) => [...row, -(row[0] * t0 + row[1] * t1 + row[2] * t2)]);
  }
  const apply = (rows, point) => rows.slice(0, 3).map((r) => r[0] * point[0] + r[1] * point[1] + r[2] * point[2] + r[3]);
  const flip = ([x, y, z]) => [-x, -y, z]; // LPS and RAS
  const inside = (place) => place.every((value, axis) => value >= 0 && value < facts.shape_zyx[axis]);

  function goTo(place) {
    const clamped = place.map((value, axis) => Math.min(Math.max(value, 0), facts.shape_zyx[axis] - 1));
    planes.scene.crosshairPos = planes.mm2frac(flip(apply(facts.affine_lps, clamped)), 0, true);
    planes.createOnLocationChange();
    planes.drawScene();
  }

  function step(patientAxis, sign) { // LPS axis; moves along the nearest axis of the grid
    const direction = facts.affine_lps[patientAxis].slice(0, 3);
    const lengths = [0, 1, 2].map((axis) => Math.hypot(...facts.affine_lps.slice(0, 3).map((row) => row[axis])));
    const shares = direction.map((value, axis) => Math.abs(value / lengths[axis]));
    const axis = shares.indexOf(Math.max(...shares));
    const place = [...voxel];
    place[axis] += sign * Math.sign(direction[axis]);
    goTo(place);
  }

  function located(data) {
    const mm = Array.from(data.mm).slice(0, 3); // RAS
    voxel = apply(toVoxel, flip(mm)).map(Math.round);
    const side = ([minus, plus], value) => `${value < 0 ? minus : plus} ${Math.abs(value).toFixed(1)}`;
    by("position").textContent = `${side("LR", mm[0])}  ${side("PA", mm[1])}  ${side("IS", mm[2])} mm`;
    by("voxel").textContent = `voxel x ${voxel[2]}, y ${voxel[1]}, z ${voxel[0]}`;
    const known = inside(voxel);
    const values = data.values.map((entry) => entry.value);
    by("density").textContent = !facts.has_ct ? "" : known ? `${Math.round(values[0])} HU`.replace("-", "−") : "– HU";
    const id = known ? Math.round(values[values.length - 1]) : null;
    by("class").textContent = !facts.has_labels ? "" : id === 0 ? "No class" : facts.classes.find((c) => c.id === id)?.title ?? "–";
    if (!space) return;
    space.scene.crosshairPos = space.mm2frac(mm, 0, true);
    clearTimeout(pause);
    if (document.body.dataset.layout !== "one") pause = setTimeout(() => space.drawScene(), SPACE_PAUSE_MS);
  }

  /* ---- what is shown ---- */

  function colours(veil) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: ["background"] };
    for (const { id, title, colour } of facts.classes) {
      ["R", "G", "B"].forEach((channel, k) => table[channel].push(colour[k]));
      table.A.push(off.has(id) ? 0 : Math.round(255 * (id === HEALTHY ? veil : 1)));
      table.I.push(id);
      table.labels.push(title);
    }
    return table;
  }

  function paint() {
    planes.volumes[planes.volumes.length - 1].setColormapLabel(colours(facts.has_ct ? VEIL.planes : 1));
    planes.updateGLVolume();
    space.volumes[0].setColormapLabel(colours(VEIL.space));
    space.updateGLVolume();
  }

  function toggle(id) {
    const button = document.querySelector(`.toggle[data-id="${id}"]`);
    if (!button) return;
    off.has(id) ? off.delete(id) : off.add(id);
    button.setAttribute("aria-pressed", String(!off.has(id)));
    paint();
  }

  function setStrength(value) {
    strength = Math.min(Math.max(value, 0), 100);
    if (strength) lastStrength = strength;
    by("opacity").value = strength;
    by("opacity-value").textContent = `${strength} %`;
    planes.overlayAlphaShader = strength / 100;
    planes.drawScene();
  }

  function setWindow(index) {
    windowIndex = index;
    by("window").selectedIndex = index;
    const [, level, width] = WINDOWS[index];
    Object.assign(planes.volumes[0], { cal_min: level - width / 2, cal_max: level + width / 2 });
    planes.updateGLVolume();
  }

  function windowed(volume) { // after a drag with the right button
    if (!facts.has_ct || volume !== planes.volumes[0]) return;
    const [level, width] = [(volume.cal_min + volume.cal_max) / 2, volume.cal_max - volume.cal_min];
    by("window").options[WINDOWS.length].textContent = `drawn (level ${Math.round(level)}, width ${Math.round(width)})`;
    by("window").options[WINDOWS.length].hidden = false;
    by("window").selectedIndex = WINDOWS.length;
  }

  function setLayout(index) {
    layout = index;
    by("layout").selectedIndex = index;
    const name = LAYOUTS[index][1];
    const { AXIAL, CORONAL, SAGITTAL } = SLICE_TYPE;
    document.body.dataset.layout = ["all", "space"].includes(name) ? name : "one";
    if (name === "all") {
      planes.setCustomLayout([
        { sliceType: AXIAL, position: [0, 0, 0.5, facts.has_labels ? 0.5 : 1] }, // the 3D view lies below it
        { sliceType: CORONAL, position: [0.5, 0, 0.5, 0.5] },
        { sliceType: SAGITTAL, position: [0.5, 0.5, 0.5, 0.5] },
      ]);
    } else {
      planes.clearCustomLayout();
      planes.setSliceType({ axial: AXIAL, coronal: CORONAL, sagittal: SAGITTAL, space: AXIAL }[name]);
    }
    space?.resizeListener();
  }

  function resetView() {
    planes.scene.pan2Dxyzmm = [0, 0, 0, 1];
    if (space) {
      space.setRenderAzimuthElevation(160, 10);
      space.scene.volScaleMultiplier = 1;
      space.drawScene();
    }
    if (facts.has_ct && by("window").selectedIndex !== 0) setWindow(0);
    goTo(facts.start);
  }

  /* ---- the panel ---- */

  function amounts(row, entries, show) {
    for (const part of ["both", "right", "left"]) {
      const cell = make("td");
      for (const [k, text] of show(entries[part]).entries()) cell.append(make(k ? "small" : "span", text));
      row.append(cell);
    }
  }

  function drawPanel() {
    document.title = `${facts.title} - DiffSegLung`;
    by("title").textContent = facts.title;
    for (const text of facts.warnings) by("warnings").append(make("li", text));
    for (const [name] of LAYOUTS) if (facts.has_labels || name !== "3D") by("layout").append(make("option", facts.has_labels ? name : name.replace(" and 3D", "")));
    for (const [name, level, width] of WINDOWS) by("window").append(make("option", `${name} (level ${level}, width ${width})`));
    by("window").append(make("option", "", { hidden: true }));
    by("window-control").hidden = !facts.has_ct;
    by("opacity-control").hidden = !(facts.has_ct && facts.has_labels);
    by("hint").hidden = facts.has_ct;
    by("result").hidden = !facts.has_labels;
    by("origin").textContent = [facts.method && `method ${facts.method}`, facts.created && `made ${facts.created}`].filter(Boolean).join(", ");
    document.body.dataset.labels = facts.has_labels ? "yes" : "no";
    for (const entry of facts.classes) {
      const row = make("tr"), cell = make("td"), line = make("div", "", { className: "entry" });
      const button = make("button", "", { type: "button", className: "toggle", title: `show or hide (key ${entry.id})` });
      button.dataset.id = entry.id;
      button.setAttribute("aria-pressed", "true");
      button.style.setProperty("--swatch", `rgb(${entry.colour.join(" ")})`);
      button.append(make("span", "", { className: "swatch" }), make("span", entry.title));
      button.addEventListener("click", () => toggle(entry.id));
      line.append(button);
      if (entry.place) {
        const go = make("button", "→", { type: "button", className: "go", title: `go to ${entry.title}` });
        go.setAttribute("aria-label", go.title);
        go.addEventListener("click", () => goTo(entry.place));
        line.append(go);
      }
      cell.append(line);
      row.append(cell);
      amounts(row, entry, (part) => [percent(part.fraction_of_lung), number(part.volume_ml, 1, "mL")]);
      by("legend").tBodies[0].append(row);
    }
    const density = [
      ["lung volume", (part) => number(part.volume_ml == null ? null : part.volume_ml / 1000, 2, "L")],
      ["mean density", (part) => number(part.mean_lung_density_hu, 0, "HU")],
      ["LAA−950", (part) => percent(part["LAA-950"])],
      ["HAA −600 to −250", (part) => percent(part.HAA)],
    ];
    for (const [title, show] of facts.lung ? density : []) {
      const row = make("tr");
      row.append(make("td", title, { className: "dim" }));
      amounts(row, facts.lung, (part) => [show(part)]);
      by("lung").tBodies[0].append(row);
    }
  }

  const flipStrength = () => setStrength(strength ? 0 : lastStrength);
  const KEYS = {
    ArrowLeft: () => step(0, -1), ArrowRight: () => step(0, 1), ArrowUp: () => step(1, -1), ArrowDown: () => step(1, 1),
    PageUp: () => step(2, 1), PageDown: () => step(2, -1),
    o: () => facts.has_ct && facts.has_labels && flipStrength(), w: () => facts.has_ct && setWindow((windowIndex + 1) % WINDOWS.length),
    "+": () => setStrength(strength + 5), "-": () => setStrength(strength - 5),
    l: () => setLayout((layout + 1) % by("layout").length), r: resetView, "?": () => by("help").showModal(),
  };

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || by("help").open) return;
    const own = event.target.closest?.("select, input");
    if (own && !["?", "o", "w", "l", "r"].includes(event.key)) return; // lists and sliders handle their own keys
    if (own?.tagName === "SELECT") return;
    const action = /^[1-9]$/.test(event.key) ? () => toggle(Number(event.key)) : KEYS[event.key];
    if (event.target === planes.canvas || event.target === space?.canvas) event.stopPropagation(); // or NiiVue handles the key too
    if (!action) return;
    event.preventDefault();
    action();
  }

  function listen() {
    document.addEventListener("keydown", pressed, { capture: true });
    document.addEventListener("keyup", (event) => event.stopPropagation(), { capture: true });
    by("layout").addEventListener("change", (event) => setLayout(event.target.selectedIndex));
    by("window").addEventListener("change", (event) => event.target.selectedIndex < WINDOWS.length && setWindow(event.target.selectedIndex));
    by("opacity").addEventListener("input", (event) => setStrength(Number(event.target.value)));
    by("reset").addEventListener("click", resetView);
    by("help-button").addEventListener("click", () => by("help").showModal());
  }

  async function open() {
    if (!document.createElement("canvas").getContext("webgl2")) {
      return say("This browser cannot draw volumes: WebGL2 is missing. Use a current Firefox, Chrome, Edge or Safari, and enable hardware acceleration.");
    }
    facts = await (await fetch("facts.json")).json();
    toVoxel = inverse(facts.affine_lps);
    drawPanel();
    planes = new Niivue({
      ...OPTIONS, multiplanarShowRender: SHOW_RENDER.NEVER, dragMode: DRAG_MODE.contrast, isNearestInterpolation: true,
      isAlphaClipDark: !facts.has_ct, // without a CT, hidden labels are black
    });
    const interpolate = planes.updateInterpolation.bind(planes); // NiiVue has one setting for all volumes: interpolate the CT, but never labels
    planes.updateInterpolation = (layer, smooth = false) => interpolate(layer, smooth || (layer === 0 && facts.has_ct));
    planes.onLocationChange = located;
    planes.onIntensityChange = windowed;
    await planes.attachToCanvas(by("planes"));
    const volumes = [];
    if (facts.has_ct) volumes.push({ url: "ct.nii", name: "ct.nii", colormap: "gray", cal_min: -1350, cal_max: 150 });
    if (facts.has_labels) volumes.push({ url: "label_map.nii", name: "label_map.nii", opacity: 1, cal_min: 0, cal_max: 255 });
    await planes.loadVolumes(volumes);
    if (facts.has_labels) {
      space = new Niivue({ ...OPTIONS, show3Dcrosshair: true, sliceType: SLICE_TYPE.RENDER });
      await space.attachToCanvas(by("space"));
      await space.loadVolumes([{ url: "coarse.nii", name: "coarse.nii", cal_min: 0, cal_max: 255 }]);
      paint();
    }
    if (facts.has_ct && facts.has_labels) setStrength(strength);
    setLayout(0);
    listen();
    resetView();
    document.body.dataset.state = "ready";
  }

  open().catch((error) => say(`The volumes could not be shown: ${error.message ?? error}`));
})();
