// Moving and zooming: all panes show the same position at the same scale.

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
