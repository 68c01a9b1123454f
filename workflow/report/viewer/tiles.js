// Tiles: pictures that load when they are first drawn, and are forgotten when they have not been drawn for long.

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
