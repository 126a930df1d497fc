// A JSON document as text with colours, and one event with everything known of it.

import { append, h } from '../base/dom.js';
import { dateTime, number } from '../base/format.js';
import { t } from '../base/i18n.js';
import { Digits, isObject, stringify } from '../base/json.js';
import { link } from '../base/router.js';
import { aggregateLink, correlationLink, rowFacts, positionLink, typeMark } from './controls.js';

/** Characters of one document shown at once. */
const SHOWN_MAX = 200_000;

function tokens(value, depth, out) {
  const line = (level) => `\n${'  '.repeat(level)}`;
  if (value instanceof Digits || typeof value === 'number') out.push(h('span', { class: 'j-number' }, String(value)));
  else if (typeof value === 'string') out.push(h('span', { class: 'j-text' }, JSON.stringify(value)));
  else if (Array.isArray(value) || isObject(value)) {
    const [open, close] = Array.isArray(value) ? '[]' : '{}';
    const names = Array.isArray(value) ? value : Object.keys(value);
    out.push(open);
    names.forEach((entry, index) => {
      out.push((index > 0 ? ',' : '') + line(depth + 1));
      if (Array.isArray(value)) tokens(entry, depth + 1, out);
      else {
        out.push(h('span', { class: 'j-name' }, JSON.stringify(entry)), ': ');
        tokens(value[entry], depth + 1, out);
      }
    });
    out.push((names.length > 0 ? line(depth) : '') + close);
  } else out.push(h('span', { class: 'j-word' }, String(value)));
}

/** A document, indented. */
export function documentView(value, label) {
  const block = h('pre', { class: 'json', tabindex: '0', role: 'region', 'aria-label': label ?? t('Document') });
  const text = stringify(value, 2);
  if (text.length > SHOWN_MAX) {
    append(block, [`${text.slice(0, SHOWN_MAX)}\n… ${t('and {count} more characters', { count: number(text.length - SHOWN_MAX) })}`]);
    return block;
  }
  const out = [];
  tokens(value, 0, out);
  append(block, out);
  return block;
}

/** All about one event. On a branch it has no place in main's log, and no proof. */
export function eventDetail(event, { withStream = true, isOnMain = true } = {}) {
  const { metadata = {} } = event;
  return h(
    'div',
    { class: 'event-detail' },
    h('div', { class: 'event-title' }, typeMark(event.event_type), h('span', { class: 'muted mono' }, `#${event.sequence}`)),
    h('h3', { class: 'caption' }, t('Payload')),
    documentView(event.data, t('Payload')),
    rowFacts(
      [t('Recorded'), h('span', { class: 'mono' }, `${dateTime(event.recorded_at)} UTC`)],
      [t('Position'), isOnMain ? positionLink(event.position) : mono(event.position)],
      withStream && [t('Aggregate'), aggregateLink(event.aggregate_id, { at: event.sequence })],
      [t('Correlation'), isOnMain ? correlationLink(metadata.correlation_id) : mono(metadata.correlation_id)],
      [t('Causation'), mono(metadata.causation_id)],
      [t('Command'), mono(metadata.command_id)],
      [t('Actor'), metadata.actor ?? '–'],
      [t('Schema version'), String(event.schema_version)],
      [t('Checksum'), isOnMain ? h('a', { class: 'mono breaks', href: link(['integrity'], { position: event.position }), title: t('Prove this event') }, event.checksum) : mono(event.checksum)],
    ),
  );
}

const mono = (text) => (text ? h('span', { class: 'mono breaks' }, String(text)) : '–');
