// Drawing: a pane is its layers, each of bricks of several levels, with a cross and a scale bar.

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
