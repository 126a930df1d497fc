// What `/metrics` says, as far as charts need it: sums over labels, rates between two looks, quantiles of histograms.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/** The samples of these names: `{ name, labels, value }`. */
export function parseMetrics(text, wanted) {
  const found = [];
  for (const line of text.split('\n')) {
    if (line === '' || line[0] === '#') continue;
    const end = line.search(/[{ ]/);
    if (!wanted.has(line.slice(0, end).replace(/_(bucket|sum|count)$/, '')) && !wanted.has(line.slice(0, end))) continue;
    const [, name, labels, value] = LINE.exec(line) ?? [];
    if (name === undefined) continue;
    found.push({ name, labels: labelsOf(labels ?? ''), value: Number(value.replace('Inf', 'Infinity')) });
  }
  return found;
}

function labelsOf(text) {
  const labels = new Map();
  for (const [, name, value] of text.matchAll(LABEL)) labels.set(name, value.replace(/\\(.)/g, (_, c) => (c === 'n' ? '\n' : c)));
  return labels;
}

/** The sum of a metric's samples that pass. */
export function sum(samples, name, passes = () => true) {
  let total = NaN;
  for (const sample of samples) {
    if (sample.name === name && passes(sample.labels)) total = (Number.isNaN(total) ? 0 : total) + sample.value;
  }
  return total;
}

/** A histogram's cumulated buckets: bound → count. */
export function buckets(samples, name, passes = () => true) {
  const counts = new Map();
  for (const sample of samples) {
    if (sample.name !== `${name}_bucket` || !passes(sample.labels)) continue;
    const bound = Number(sample.labels.get('le').replace('+Inf', 'Infinity'));
    counts.set(bound, (counts.get(bound) ?? 0) + sample.value);
  }
  return counts;
}

/** A quantile of what came between two looks at a histogram; NaN when nothing came. */
export function quantile(before, now, share) {
  const bounds = [...now.keys()].sort((a, b) => a - b);
  const came = bounds.map((bound) => now.get(bound) - (before.get(bound) ?? 0));
  const total = came.at(-1);
  if (!(total > 0)) return NaN;
  const rank = share * total;
  const index = came.findIndex((count) => count >= rank);
  const [low, high] = [index > 0 ? bounds[index - 1] : 0, bounds[index]];
  if (high === Infinity) return low;
  const below = index > 0 ? came[index - 1] : 0;
  return low + ((high - low) * (rank - below)) / Math.max(1, came[index] - below);
}
