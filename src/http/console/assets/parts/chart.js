// Curves: small SVG charts of a few series over time, with their last value in words.

import { h, replace, s } from '../base/dom.js';
import { t } from '../base/i18n.js';

const WIDTH = 320;
const HEIGHT = 96;

/** The points as a path; gaps where a value is missing. */
function path(values, most, count) {
  let text = '';
  let isDrawing = false;
  values.forEach((value, index) => {
    if (!Number.isFinite(value)) {
      isDrawing = false;
      return;
    }
    const x = (index + count - values.length) * (WIDTH / Math.max(1, count - 1));
    const y = HEIGHT - 4 - (value / most) * (HEIGHT - 12);
    text += `${isDrawing ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`;
    isDrawing = true;
  });
  return text;
}

/** The next round number: 1, 2 or 5 with zeros. */
export function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

/**
 * A card with a chart. `draw(series, count)` takes `[{ name, values, text }]`, values oldest first, and room for
 * `count` of them.
 */
export function chartCard(title, format) {
  const plot = s('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', class: 'plot', role: 'img' });
  const scale = h('span', { class: 'muted small mono' });
  const legend = h('ul', { class: 'legend' });
  const card = h('section', { class: 'panel chart' }, h('div', { class: 'chart-head' }, h('h2', null, title), scale), plot, legend);
  const draw = (series, count) => {
    const most = ceiling(Math.max(0, ...series.flatMap(({ values }) => values.filter(Number.isFinite))));
    scale.textContent = t('up to {value}', { value: format(most) });
    const lines = series.map(({ values }, index) => s('path', { d: path(values, most, count), class: `line line-${index + 1}` }));
    const grid = [0.25, 0.5, 0.75].map((share) => s('line', { x1: 0, x2: WIDTH, y1: HEIGHT * share, y2: HEIGHT * share, class: 'grid' }));
    replace(plot, grid, lines);
    const told = series.map(({ name, values }) => `${name}: ${format(values.at(-1))}`);
    plot.setAttribute('aria-label', `${title}. ${told.join('; ')}`);
    replace(legend, series.map(({ name, values }, index) => h('li', null, h('span', { class: `swatch swatch-${index + 1}`, 'aria-hidden': 'true' }), name, ' ', h('strong', { class: 'mono' }, format(values.at(-1))))));
  };
  return { card, draw };
}

/** A bare curve for a tile. */
export function spark(values, count, label) {
  const most = ceiling(Math.max(0, ...values.filter(Number.isFinite)));
  const line = path(values, most, count);
  return s('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', class: 'spark', role: 'img', 'aria-label': label }, s('path', { d: line, class: 'line line-1' }));
}
