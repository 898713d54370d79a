// The axis of time. Stretches in which nothing of the run executes (a back-off, a sleep, a dead process) are squeezed
// where they are long, so that a run of seconds that waited for days can still be read.

const LONG = 0.25; // of the time that something executed: longer idle stretches may be squeezed,
const SQUEEZED = 0.5; // to about that; all of them together to about the time that something executed
const TICK_PIXELS = 84; // from one mark to the next, at least
const WORD_PIXELS = 50; // that the time at a mark needs
const NICE = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
  3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000];

/** The axis from `start` to `end`, given the stretches `[from, to]` in which something executed. */
export function makeAxis(start, end, busy) {
  const pieces = [];
  const total = busy.reduce((sum, [from, to]) => sum + to - from, 0);
  const stretches = [...stretchesOf(start, Math.max(end, start + 0.001), busy)];
  const long = stretches.filter((each) => each.idle && each.to - each.from > total * LONG).length;
  const limit = Math.max(total * Math.min(SQUEEZED, 1 / Math.max(1, long)), 0.0005);
  let width = 0;
  for (const { from, to, idle } of stretches) {
    const length = to - from;
    const squeezed = idle && length > limit * 1.5;
    const shown = squeezed ? limit * (1 + 0.12 * Math.log(length / limit)) : length;
    pieces.push({ from, to, at: width, width: shown, squeezed });
    width += shown;
  }
  return { start, pieces, width };
}

function* stretchesOf(start, end, busy) {
  let at = start;
  for (const [from, to] of union(busy)) {
    const [first, last] = [Math.max(from, at), Math.min(to, end)];
    if (first > at) yield { from: at, to: Math.min(first, end), idle: true };
    if (last > first) yield { from: first, to: last, idle: false };
    at = Math.max(at, last);
  }
  if (at < end) yield { from: at, to: end, idle: true };
}

function union(stretches) {
  const joined = [];
  for (const [from, to] of [...stretches].sort((one, other) => one[0] - other[0])) {
    const last = joined.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else joined.push([from, to]);
  }
  return joined;
}

/** Where a moment is on the axis, 0 to 1. */
export function place(axis, moment) {
  for (const piece of axis.pieces) {
    if (moment <= piece.to) {
      const share = Math.max(0, (moment - piece.from) / (piece.to - piece.from));
      return (piece.at + share * piece.width) / axis.width;
    }
  }
  return 1;
}

/** Marks below which a time stands: `{at: 0 to 1, seconds}` since the start, for an axis so many pixels wide. */
export function ticks(axis, pixels) {
  const scale = pixels / axis.width;
  const step = NICE.find((nice) => nice * scale >= TICK_PIXELS) ?? NICE.at(-1);
  const found = [];
  let free = 0; // pixels from which there is room
  for (const [index, piece] of axis.pieces.entries()) {
    if (piece.squeezed) {
      free = Math.max(free, (piece.at + piece.width) * scale); // it has a time of its own
      continue;
    }
    const end = axis.pieces.slice(index).find((each) => each.squeezed)?.at ?? axis.width;
    for (let n = Math.ceil((piece.from - axis.start) / step - 1e-9); n * step + axis.start <= piece.to + 1e-9; n += 1) {
      const at = place(axis, n * step + axis.start);
      if (at * pixels >= free - 1 && at * pixels <= end * scale - WORD_PIXELS) {
        found.push({ at, seconds: n * step });
        free = at * pixels + WORD_PIXELS;
      }
      if (found.length > 100) return found;
    }
  }
  return found;
}
