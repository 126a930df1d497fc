// A causation graph: a lane per stream, an event per column, a curve from each cause to its effect.

import { h, s } from '../base/dom.js';
import { hue, shortId } from '../base/format.js';
import { t } from '../base/i18n.js';

const COLUMN = 120;
const LANE = 92;
/** Room for the names of lanes, which stay in sight while the rest is scrolled. */
const NAMES = 150;
const NAMES_NARROW = 112;
const TOP = 4;

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** `select(event)` hears which event is wanted. */
export function causationGraph({ lanes, requests, nodes, edges }, select) {
  const left = innerWidth < 600 ? NAMES_NARROW : NAMES;
  const x = (column) => left + COLUMN * (column + 0.5);
  const first = Math.max(1, requests.length);
  const y = (row) => TOP + LANE * (row + first) + LANE / 2;
  const requestY = (row) => TOP + LANE * row + LANE / 2;
  const width = left + COLUMN * nodes.length + 24;
  const height = TOP + LANE * (lanes.length + first) + 8;
  const places = new Map(nodes.map((node) => [node.event.event_id, [x(node.column), y(node.row)]]));
  for (const request of requests) places.set(request.id, [left + 10, requestY(request.row)]);
  const rows = lanes.map((lane) => s('g', { class: 'lane' }, s('line', { x1: left, x2: width - 12, y1: y(lane.row), y2: y(lane.row) })));
  const starts = requests.map((request) => s('g', { class: 'request' }, s('rect', { x: left, y: requestY(request.row) - 10, width: 20, height: 20, rx: 6 })));
  const names = [...requests.map((request) => nameView(t('Request'), request.id, shortId(request.id), requestY(request.row), left)), ...lanes.map((lane) => nameView(shortId(lane.id), lane.id, lane.type, y(lane.row), left))];
  const curves = edges.map((edge) => edgeView(edge, places.get(edge.from), places.get(edge.to)));
  const dots = nodes.map((node) => nodeView(node, x(node.column), y(node.row), select));
  const drawing = s('svg', { class: 'graph', width, height, viewBox: `0 0 ${width} ${height}`, role: 'group', 'aria-label': t('Causation graph') }, rows, starts, curves, dots);
  const aside = s('svg', { class: 'graph-names', width: left, height, viewBox: `0 0 ${left} ${height}`, 'aria-hidden': 'true' }, names);
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': t('Causation graph') }, h('div', { class: 'graph-frame' }, drawing, aside));
}

/** Two lines beside a lane; the whole id shows when it is pointed at. */
function nameView(name, id, below, y, room) {
  const most = Math.floor((room - 8) / 7.3);
  return s('g', null, s('title', null, id), s('text', { x: 4, y: y - 4, class: 'lane-name' }, cut(name, most)), s('text', { x: 4, y: y + 14, class: 'lane-type' }, cut(below, most)));
}

function edgeView(edge, from, to) {
  const [[x1, y1], [x2, y2]] = [from, to];
  if (edge.isTogether && y1 === y2) return s('line', { class: 'together', x1: x1 + 12, x2: x2 - 12, y1, y2 });
  const lean = Math.max(34, (x2 - x1) / 2);
  const isLevel = y1 === y2;
  const path = isLevel ? `M${x1 + 9} ${y1}C${x1 + lean} ${y1 - 30} ${x2 - lean} ${y2 - 30} ${x2 - 9} ${y2}` : `M${x1 + 9} ${y1}C${x1 + lean} ${y1} ${x2 - lean} ${y2} ${x2 - 9} ${y2}`;
  const label = edge.command && s('text', { class: 'edge-name', x: x2, y: y2 - 30, 'text-anchor': 'middle' }, cut(edge.command, 20));
  return s('g', { class: 'edge' }, s('path', { d: path }), label);
}

function nodeView(node, x, y, select) {
  const { event } = node;
  const open = () => select(event);
  const onKey = (key) => {
    if (key.key === 'Enter' || key.key === ' ') {
      key.preventDefault();
      open();
    }
  };
  const shown = cut(event.event_type.replace(/^Saga(?=[A-Z])/, ''), 19);
  // Whoever speaks to the page names what is seen, so that stands first.
  const label = `${shown}, ${event.event_type}, ${event.aggregate_id}, ${t('Position {position}', { position: event.position })}`;
  return s(
    'g',
    { class: 'node', tabindex: '0', role: 'button', 'aria-label': label, 'data-position': event.position, on: { click: open, keydown: onKey } },
    s('rect', { class: 'node-area', x: x - COLUMN / 2 + 4, y: y - 18, width: COLUMN - 8, height: 52, rx: 8 }),
    s('circle', { cx: x, cy: y, r: 8, class: `fill-${hue(event.event_type)}` }),
    s('text', { x, y: y + 26, 'text-anchor': 'middle', class: 'node-name' }, shown),
  );
}
