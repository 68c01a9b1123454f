// The viewer of the report: panes that show one place of a volume, drawn from tiles that load when they are seen.
//
// Positions are voxels (z, y, x), with 0.5 added for the middle of a voxel. A scale is CSS px per nm.
// A tile is a brick of one layer, its sections one below the other, so that all three planes are drawn from it.
"use strict";
(() => {
  const known = JSON.parse(document.getElementById("viewer-data").textContent);
  const root = document.querySelector("#viewer .viewer");
  const $ = (selector) => root.querySelector(selector);
  const PLANES = { xy: { h: 2, v: 1, n: 0 }, xz: { h: 2, v: 0, n: 1 }, yz: { h: 0, v: 1, n: 2 } };
  const AXES = ["z", "y", "x"];
  const [MOST_TILES_OF_A_LAYER, KEPT_TILES, FLICKER_MS, LARGEST_VOXEL_PX] = [64, 160, 700, 64];

  const state = {
    volume: known.volumes[0],
    centre: [0, 0, 0],
    scale: 1,
    plane: "xy",
    arrangement: "one",
    cross: false,
    layers: {}, // name -> {shown, opacity}
    flicker: { timer: null, phase: null },
  };
  for (const volume of known.volumes)
    for (const { name, shown, opacity } of volume.layers) state.layers[name] ??= { shown, opacity };

  // ---- Tiles -------------------------------------------------------------------------------------------------------

  const tiles = new Map(); // path -> {image, ready, failed, frame}
  const pending = new Set();
  let frame = 0;

  function tile(path) {
    let found = tiles.get(path);
    if (!found) {
      found = { image: new Image(), ready: false };
      tiles.set(path, found);
      pending.add(path);
      found.image.src = known.files ? known.files[path] : `${known.folder}/${path}`;
      found.image.decode().then(
        () => loaded(path, "ready"),
        () => loaded(path, "failed"),
      );
    }
    found.frame = frame;
    return found;
  }

  function loaded(path, outcome) {
    pending.delete(path);
    const found = tiles.get(path);
    if (found) found[outcome] = true;
    schedule();
  }

  function forgetOldTiles() {
    for (const [path, found] of tiles) {
      if (tiles.size <= KEPT_TILES) return;
      if (found.frame < frame && !pending.has(path)) tiles.delete(path);
    }
  }

  // ---- Levels and bricks -------------------------------------------------------------------------------------------

  const size = (pane, axis) => (axis === PLANES[pane.plane].h ? pane.width : pane.height);
  const range = (from, to) => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  // Voxels from the first to the last one that a pane shows along an axis.
  function shownVoxels(pane, axis) {
    const { centre, scale, volume } = state;
    if (axis === PLANES[pane.plane].n) return [Math.floor(centre[axis]), Math.floor(centre[axis]) + 1];
    const half = size(pane, axis) / 2 / (volume.voxel[axis] * scale);
    return [Math.max(0, centre[axis] - half), Math.min(volume.shape[axis], centre[axis] + half)];
  }

  // Indices of the bricks of a level that a pane shows.
  function shownBricks(pane, level) {
    const ranges = AXES.map((_, axis) => {
      const side = level.factor[axis] * state.volume.brick[axis];
      const [first, last] = shownVoxels(pane, axis);
      return range(Math.floor(first / side), Math.ceil(last / side));
    });
    return ranges[0].flatMap((z) => ranges[1].flatMap((y) => ranges[2].map((x) => [z, y, x])));
  }

  // "1" if a tile is stored, "0" if nothing is to be drawn, undefined if a coarser level has to do.
  function stateOfBrick(level, layer, index) {
    if (level.bricks) return level.tiles[layer][level.bricks.indexOf(index.join("-"))];
    const counts = AXES.map((_, axis) => Math.ceil(level.shape[axis] / state.volume.brick[axis]));
    return level.tiles[layer][(index[0] * counts[1] + index[1]) * counts[2] + index[2]];
  }

  const pathOf = (level, layer, index) => `${state.volume.name}/${layer}/${level.factor.join("-")}/${index.join("-")}.webp`;

  // The coarsest level whose pixels are about as small as those of the screen.
  function targetLevel(pane) {
    const { levels, voxel } = state.volume;
    const { h, v } = PLANES[pane.plane];
    const sidePx = (level) => Math.min(...[h, v].map((axis) => level.factor[axis] * voxel[axis])) * state.scale * pane.ratio;
    let number = Math.max(0, levels.findLastIndex((level) => sidePx(level) <= 1.5));
    while (number < levels.length - 1 && shownBricks(pane, levels[number]).length > MOST_TILES_OF_A_LAYER) number++;
    return number;
  }

  // Whether all that a pane shows of a level is there; what is not there yet is asked for.
  function isComplete(pane, level, layer) {
    let complete = true;
    for (const index of shownBricks(pane, level)) {
      const stored = stateOfBrick(level, layer, index);
      if (!stored || (stored === "1" && !tile(pathOf(level, layer, index)).ready)) complete = false;
    }
    return complete;
  }

  // ---- Drawing -----------------------------------------------------------------------------------------------------

  // Whole px of the canvas at a voxel, so that neighbouring bricks leave no gap.
  function at(pane, axis, voxel) {
    const px = (voxel - state.centre[axis]) * state.volume.voxel[axis] * state.scale + size(pane, axis) / 2;
    return Math.round(px * pane.ratio);
  }

  // One layer: coarser levels first, and finer ones over them where they are there.
  function drawLayer(context, pane, layer) {
    const { levels } = state.volume;
    const target = targetLevel(pane);
    let coarsest = target;
    while (coarsest < levels.length && !isComplete(pane, levels[coarsest], layer)) coarsest++;
    for (let number = Math.min(coarsest, levels.length - 1); number >= target; number--)
      for (const index of shownBricks(pane, levels[number])) drawBrick(context, pane, levels[number], layer, index);
  }

  function drawBrick(context, pane, level, layer, index) {
    const stored = stateOfBrick(level, layer, index);
    const found = stored === "1" && tile(pathOf(level, layer, index));
    if (!stored || (found && !found.ready)) return;
    const { h, v, n } = PLANES[pane.plane];
    const low = index.map((i, axis) => i * state.volume.brick[axis]);
    const sides = low.map((first, axis) => Math.min(state.volume.brick[axis], level.shape[axis] - first));
    const edge = (axis, pixel) => at(pane, axis, Math.min((low[axis] + pixel) * level.factor[axis], state.volume.shape[axis]));
    const [left, top] = [edge(h, 0), edge(v, 0)];
    const [width, height] = [edge(h, sides[h]) - left, edge(v, sides[v]) - top];
    context.clearRect(left, top, width, height);
    if (!found) return;
    const slice = Math.floor(Math.floor(state.centre[n]) / level.factor[n]) - low[n];
    context.imageSmoothingEnabled = width < sides[h];
    if (pane.plane === "xy")
      context.drawImage(found.image, 0, slice * sides[1], sides[2], sides[1], left, top, width, height);
    for (const z of pane.plane === "xy" ? [] : range(0, sides[0])) {
      const [from, to] = [edge(0, z), edge(0, z + 1)];
      if (pane.plane === "xz")
        context.drawImage(found.image, 0, z * sides[1] + slice, sides[2], 1, left, from, width, to - from);
      else context.drawImage(found.image, slice, z * sides[1], 1, sides[1], from, top, to - from, height);
    }
  }

  // The layers of a pane that are shown now, the lowest first.
  function layersOf(pane) {
    const names = state.volume.layers.map(({ name }) => name);
    if (pane.layer) return names.filter((name) => name === "raw" || name === pane.layer);
    const shown = names.filter((name) => state.layers[name].shown);
    const { phase } = state.flicker;
    if (phase === null) return shown;
    const above = shown.filter((name) => name !== "raw");
    const turn = above.length > 1 ? above[phase % above.length] : phase % 2 ? above[0] : undefined;
    return shown.filter((name) => name === "raw" || name === turn);
  }

  function drawPane(pane) {
    const { canvas, scratch } = pane;
    pane.ratio = window.devicePixelRatio || 1;
    [pane.width, pane.height] = [pane.element.clientWidth, pane.element.clientHeight];
    if (!pane.width || !pane.height) return; // hidden, as in print
    for (const one of [canvas, scratch]) {
      const [width, height] = [Math.round(pane.width * pane.ratio), Math.round(pane.height * pane.ratio)];
      if (one.width !== width || one.height !== height) [one.width, one.height] = [width, height];
    }
    const context = canvas.getContext("2d");
    const layerContext = scratch.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const name of layersOf(pane)) {
      layerContext.clearRect(0, 0, scratch.width, scratch.height);
      drawLayer(layerContext, pane, name);
      context.globalAlpha = pane.layer && name === "raw" ? 1 : state.layers[name].opacity;
      context.drawImage(scratch, 0, 0);
    }
    context.globalAlpha = 1;
    if (state.cross) drawCross(context, canvas, pane.ratio);
    drawScaleBar(pane);
  }

  function drawCross(context, { width, height }, ratio) {
    const [x, y, gap] = [width / 2, height / 2, 12 * ratio];
    context.beginPath();
    for (const [ax, ay, bx, by] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
      context.moveTo(ax, ay);
      context.lineTo(bx, by);
    }
    context.lineWidth = 1.5 * ratio;
    context.strokeStyle = "rgb(255 230 0 / .8)";
    context.stroke();
  }

  // A length of 1, 2 or 5 times a power of ten nm, about a fifth of the pane.
  function drawScaleBar(pane) {
    const most = Math.min(pane.width / 4, 140) / state.scale;
    const power = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].find((n) => n * power <= most) * power;
    pane.bar.style.setProperty("--length", `${length * state.scale}px`);
    pane.bar.textContent = length >= 1000 ? `${length / 1000} µm` : `${length} nm`;
  }

  let scheduled = false;
  function schedule() {
    if (scheduled) return;
    scheduled = true;
    root.dataset.drawn = "no"; // for tests
    requestAnimationFrame(() => {
      scheduled = false;
      frame++;
      panes.forEach(drawPane);
      forgetOldTiles();
      showState();
    });
  }

  // ---- Panes -------------------------------------------------------------------------------------------------------

  let panes = [];

  function makePanes() {
    const { arrangement, plane, volume } = state;
    const wanted = {
      one: () => [{ plane }],
      layers: () => volume.layers.map(({ name }) => ({ plane, layer: name })),
      planes: () => Object.keys(PLANES).map((one) => ({ plane: one })),
    }[arrangement]();
    $(".panes").dataset.arrangement = arrangement;
    $(".panes").style.setProperty("--columns", Math.min(wanted.length, 3));
    panes = wanted.map(makePane);
    $(".panes").replaceChildren(...panes.map((pane) => pane.element));
    schedule();
  }

  function makePane({ plane, layer }) {
    const element = document.createElement("div");
    const pane = { plane, layer, element, canvas: document.createElement("canvas"), scratch: document.createElement("canvas") };
    const title = document.createElement("span");
    pane.bar = document.createElement("span");
    Object.assign(element, { className: "pane", tabIndex: 0 });
    element.setAttribute("role", "application");
    element.setAttribute("aria-label", `Image of plane ${plane}${layer ? `, ${layer}` : ""}; its keys are listed below`);
    title.className = "title";
    title.textContent = layer ? `${layer} · ${plane}` : plane;
    pane.bar.className = "bar-of-scale";
    element.append(pane.canvas, title, pane.bar);
    listen(pane);
    sizes.observe(element);
    return pane;
  }

  const sizes = new ResizeObserver(schedule);

  // ---- Moving ------------------------------------------------------------------------------------------------------

  const extents = () => state.volume.shape.map((n, axis) => n * state.volume.voxel[axis]);

  function fitScale() {
    const [{ plane, element }] = panes;
    const { h, v } = PLANES[plane];
    return Math.min(element.clientWidth / extents()[h], element.clientHeight / extents()[v]) || 1;
  }

  function moveTo(centre, scale = state.scale) {
    const { shape, voxel } = state.volume;
    state.centre = centre.map((at, axis) => clamp(at, 0, shape[axis] - 1e-6));
    state.scale = clamp(scale, Math.min(fitScale(), 1 / Math.min(...voxel)) / 2, LARGEST_VOXEL_PX / Math.min(...voxel));
    schedule();
  }

  function moveBy(pane, right, down) {
    const { h, v } = PLANES[pane.plane];
    const centre = [...state.centre];
    centre[h] += right / (state.volume.voxel[h] * state.scale);
    centre[v] += down / (state.volume.voxel[v] * state.scale);
    moveTo(centre);
  }

  // Zoom by a factor; what lies under a point of the pane (px from its middle) stays there.
  function zoom(factor, pane, right = 0, down = 0) {
    const before = state.scale;
    moveTo(state.centre, before * factor);
    const share = state.scale / before - 1;
    if (share) moveBy(pane, right * share, down * share);
  }

  function fit() {
    moveTo(state.volume.shape.map((n, axis) => (axis === normal() ? state.centre[axis] : n / 2)), fitScale());
  }

  const normal = () => PLANES[state.plane].n;

  function step(slices) {
    const centre = [...state.centre];
    centre[normal()] = clamp(Math.floor(centre[normal()]) + slices, 0, state.volume.shape[normal()] - 1) + 0.5;
    moveTo(centre);
  }

  // Place under a point of a pane, in voxels.
  function voxelAt(pane, event) {
    const [right, down] = fromMiddle(pane, event);
    const { h, v } = PLANES[pane.plane];
    const place = [...state.centre];
    place[h] += right / (state.volume.voxel[h] * state.scale);
    place[v] += down / (state.volume.voxel[v] * state.scale);
    return place;
  }

  function fromMiddle(pane, event) {
    const { left, top, width, height } = pane.element.getBoundingClientRect();
    return [event.clientX - left - width / 2, event.clientY - top - height / 2];
  }

  // ---- Mouse, touch and keys ---------------------------------------------------------------------------------------

  function listen(pane) {
    const { element } = pane;
    const fingers = new Map();
    let turned = 0;
    const middle = () => [...fingers.values()].reduce(([x, y], one) => [x + one.clientX / fingers.size, y + one.clientY / fingers.size], [0, 0]);
    const spread = () => {
      const [one, other] = fingers.values();
      return other ? Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) : 1;
    };
    element.addEventListener("pointerdown", (event) => {
      fingers.set(event.pointerId, event);
      element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      if (!fingers.has(event.pointerId)) return showPointer(voxelAt(pane, event));
      const [[x, y], apart] = [middle(), spread()];
      fingers.set(event.pointerId, event);
      const [nowX, nowY] = middle();
      moveBy(pane, x - nowX, y - nowY);
      if (apart > 1) zoom(spread() / apart, pane, ...fromMiddle(pane, { clientX: nowX, clientY: nowY }));
      showPointer(voxelAt(pane, event));
      follow();
    });
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, (event) => fingers.delete(event.pointerId));
    element.addEventListener("pointerleave", () => showPointer(null));
    element.addEventListener("dblclick", (event) => {
      moveTo(voxelAt(pane, event), state.scale * 2);
      follow();
    });
    element.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== element) return; // the page scrolls until an image is chosen
      event.preventDefault();
      if (event.ctrlKey) zoom(Math.exp(-event.deltaY / 300), pane, ...fromMiddle(pane, event));
      turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
      const slices = Math.trunc(turned / 40);
      if (slices) turned = 0;
      if (slices && !event.ctrlKey) step(Math.sign(slices));
      follow();
    }, { passive: false });
    element.addEventListener("keydown", (event) => {
      const act = !event.ctrlKey && !event.metaKey && !event.altKey && keyAction(pane, event.key);
      if (!act) return;
      event.preventDefault();
      act();
      follow();
    });
  }

  function keyAction(pane, key) {
    const rows = [...root.querySelectorAll("[data-layer]:not([hidden]) [data-set=shown]")];
    return {
      ArrowLeft: () => moveBy(pane, -40, 0),
      ArrowRight: () => moveBy(pane, 40, 0),
      ArrowUp: () => moveBy(pane, 0, -40),
      ArrowDown: () => moveBy(pane, 0, 40),
      ".": () => step(1),
      ",": () => step(-1),
      PageDown: () => step(10),
      PageUp: () => step(-10),
      "+": () => zoom(1.25, pane),
      "=": () => zoom(1.25, pane),
      "-": () => zoom(0.8, pane),
      0: fit,
      f: flicker,
      ...Object.fromEntries(rows.map((row, i) => [i + 1, () => row.click()])),
    }[key];
  }

  // ---- Controls ----------------------------------------------------------------------------------------------------

  const ACTIONS = {
    in: () => zoom(1.5, panes[0]),
    out: () => zoom(1 / 1.5, panes[0]),
    full: () => moveTo(state.centre, 1 / Math.min(...state.volume.voxel)),
    on: () => step(1),
    back: () => step(-1),
    fit,
    flicker,
  };

  const SETTINGS = {
    volume: ({ value }) => setVolume(known.volumes.find(({ name }) => name === value)),
    plane: ({ value }) => {
      state.plane = value;
      remakePanes();
    },
    arrangement: ({ value }) => {
      state.arrangement = value;
      if (value === "planes") state.cross = true;
      remakePanes();
    },
    slice: ({ value }) => step(Number(value) - Math.floor(state.centre[normal()])),
    shown: (input) => (state.layers[layerOf(input)].shown = input.checked),
    opacity: (input) => (state.layers[layerOf(input)].opacity = Number(input.value) / 100),
    cross: ({ checked }) => (state.cross = checked),
  };

  const layerOf = (input) => input.closest("[data-layer]").dataset.layer;

  function setVolume(volume) {
    state.volume = volume;
    state.centre = volume.shape.map((n) => Math.floor(n / 2) + 0.5);
    for (const row of root.querySelectorAll("[data-layer]"))
      row.hidden = !volume.layers.some(({ name }) => name === row.dataset.layer);
    makePanes();
    fit();
  }

  // Other panes at the same place, zoomed in as much as before for their size.
  function remakePanes() {
    const width = panes[0].element.clientWidth;
    makePanes();
    moveTo(state.centre, (state.scale * panes[0].element.clientWidth) / width);
  }

  // The chosen layers above raw in turn; where less motion is wanted, each press shows the next one.
  function flicker() {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const running = state.flicker.timer !== null;
    clearInterval(state.flicker.timer);
    state.flicker = { timer: null, phase: still ? (state.flicker.phase ?? -1) + 1 : running ? null : 0 };
    if (!still && !running)
      state.flicker.timer = setInterval(() => {
        state.flicker.phase++;
        schedule();
      }, FLICKER_MS);
    schedule();
  }

  root.addEventListener("click", ({ target }) => {
    const action = ACTIONS[target.dataset.do];
    if (!action) return;
    action();
    follow();
  });
  root.addEventListener("input", ({ target }) => {
    SETTINGS[target.dataset.set]?.(target);
    schedule();
    follow();
  });

  // ---- What the page says ------------------------------------------------------------------------------------------

  const inNm = (place) => place.map((voxel, axis) => Math.round(Math.floor(voxel) * state.volume.voxel[axis])).join(", ");
  const inVoxels = (place) => place.map((voxel, axis) => `${AXES[axis]} ${Math.floor(voxel)}`).join(", ");

  function showState() {
    const axis = normal();
    const slice = Math.floor(state.centre[axis]);
    const failed = [...tiles.values()].some((one) => one.failed);
    root.dataset.drawn = pending.size ? "no" : "yes";
    $("[data-show=axis]").textContent = AXES[axis];
    $("[data-show=slice]").textContent = `${slice} of ${state.volume.shape[axis] - 1}`;
    Object.assign($("[data-set=slice]"), { max: state.volume.shape[axis] - 1, value: slice });
    $("[data-set=volume]").value = state.volume.name;
    $("[data-set=plane]").value = state.plane;
    $("[data-set=arrangement]").value = state.arrangement;
    $("[data-set=cross]").checked = state.cross;
    $("[data-do=flicker]").setAttribute("aria-pressed", state.flicker.phase !== null);
    for (const row of root.querySelectorAll("[data-layer]")) {
      row.querySelector("[data-set=shown]").checked = state.layers[row.dataset.layer].shown;
      row.querySelector("[data-set=opacity]").value = 100 * state.layers[row.dataset.layer].opacity;
    }
    const told = failed
      ? `Some pictures cannot be read: keep the folder “${known.folder}” beside this page.`
      : `Middle: ${inVoxels(state.centre)} (${inNm(state.centre)} nm).`;
    if ($("[data-show=place]").textContent !== told) $("[data-show=place]").textContent = told;
  }

  function showPointer(place) {
    const inside = place && place.every((at, axis) => at >= 0 && at < state.volume.shape[axis]);
    $("[data-show=pointer]").textContent = inside ? `Pointer: ${inVoxels(place)}.` : "";
  }

  // ---- Links: #volume=NAME&z=12&y=340&x=200, in voxels ---------------------------------------------------------------

  function open(hash) {
    const asked = new URLSearchParams(hash.slice(1));
    const volume = known.volumes.find(({ name }) => name === asked.get("volume"));
    if (!volume) return false;
    state.plane = asked.get("plane") in PLANES ? asked.get("plane") : "xy";
    setVolume(volume);
    const numbers = AXES.map((name) => parseFloat(asked.get(name)));
    if (numbers.some(Number.isFinite)) {
      state.cross = true;
      const close = Math.min(...panes.map(({ element }) => element.clientWidth)) / 400 / Math.min(...volume.voxel);
      moveTo(numbers.map((at, axis) => (Number.isFinite(at) ? Math.floor(at) + 0.5 : state.centre[axis])), Math.max(close, fitScale()));
    }
    root.scrollIntoView({ block: "start" });
    return true;
  }

  let following;
  function follow() {
    clearTimeout(following);
    following = setTimeout(() => {
      const place = state.centre.map((at, axis) => `&${AXES[axis]}=${Math.floor(at)}`).join("");
      const plane = state.plane === "xy" ? "" : `&plane=${state.plane}`;
      history.replaceState(null, "", `#volume=${encodeURIComponent(state.volume.name)}${place}${plane}`);
    }, 300);
  }

  window.addEventListener("hashchange", () => open(location.hash));
  document.addEventListener("click", ({ target }) => {
    const link = target.closest?.('a[href^="#volume="]'); // a second click on the same link changes no address
    if (link && link.getAttribute("href") === location.hash) open(location.hash);
  });

  root.hidden = false;
  setVolume(state.volume);
  open(location.hash);
})();
