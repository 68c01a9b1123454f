// Levels of the pyramid, and the bricks of a level that a pane shows.

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
  while (number < levels.length - 1 && shownBricks(pane, levels[number]).length > MAX_TILES_OF_A_LAYER) number++;
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
