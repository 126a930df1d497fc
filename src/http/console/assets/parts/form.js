// A form made of a JSON schema: what it cannot draw is a field for JSON, so that everything can be sent.

import { freshId, h } from '../base/dom.js';
import { t } from '../base/i18n.js';
import { Digits, parse, stringify } from '../base/json.js';
import { resolve } from '../base/schemas.js';
import { field, input, select } from './controls.js';

const DEPTH_MAX = 6;

/** A control: `element`, and `value()`, which is undefined when the field is left empty. */
export function formOf(document, schema, { name, isRequired = false, preset, changed }, depth = 0) {
  const found = resolve(document, schema);
  const context = { document, name, isRequired, preset, changed, depth, found };
  const types = [found.type].flat().filter((type) => type !== 'null');
  if (found.const !== undefined) return { element: h('span', { hidden: true }), value: () => found.const };
  if (Array.isArray(found.enum)) return choice(context, found.enum);
  if (depth < DEPTH_MAX && types.length === 1) {
    if (types[0] === 'object' && found.properties) return object(context);
    if (types[0] === 'array' && found.items) return list(context);
    if (types[0] === 'boolean') return choice(context, [true, false]);
    if (types[0] === 'string') return text(context);
    if (types[0] === 'integer' || types[0] === 'number') return numeric(context, types[0]);
  }
  return json(context);
}

/** Descriptions are written for documents: their marks for code mean nothing here. */
const hintOf = (found) => found.description?.replaceAll('`', '');

const labelOf = ({ name, isRequired }) => (isRequired ? `${name} *` : name);

function text({ found, preset, changed, ...context }) {
  const control = input({ name: context.name, value: preset ?? found.default ?? '', required: context.isRequired, on: { input: changed } });
  if (found.maxLength) control.maxLength = found.maxLength;
  return { element: field(labelOf(context), control, hintOf(found)), value: () => (control.value === '' && !context.isRequired ? undefined : control.value) };
}

function numeric({ found, preset, changed, ...context }, type) {
  const value = preset ?? found.default ?? '';
  const pattern = type === 'integer' ? '-?\\d+' : '-?\\d+(\\.\\d+)?([eE][+\\-]?\\d+)?';
  const control = input({ name: context.name, inputmode: 'numeric', pattern, value: String(value), required: context.isRequired, on: { input: changed } });
  const read = () => {
    const digits = control.value.trim();
    if (digits === '') return undefined;
    const parsed = Number(digits);
    // What is no number goes as it is: the server says what is wrong with it.
    if (!new RegExp(`^(?:${pattern})$`).test(digits)) return digits;
    return String(parsed) === digits ? parsed : new Digits(digits);
  };
  return { element: field(labelOf(context), control, hintOf(found)), value: read };
}

function choice({ found, preset, changed, ...context }, values) {
  const options = [...(context.isRequired ? [] : [['', '–']]), ...values.map((value) => [JSON.stringify(value), String(value)])];
  const control = select(options, preset === undefined ? options[0][0] : JSON.stringify(preset), { name: context.name, on: { change: changed } });
  return { element: field(labelOf(context), control, hintOf(found)), value: () => (control.value === '' ? undefined : JSON.parse(control.value)) };
}

function object({ document, found, name, preset, changed, depth }) {
  const required = found.required ?? [];
  const members = Object.entries(found.properties).map(([member, schema]) => [member, formOf(document, schema, { name: member, isRequired: required.includes(member), preset: preset?.[member], changed }, depth + 1)]);
  const elements = members.map(([, { element }]) => element);
  const read = () => {
    const all = {};
    for (const [member, { value }] of members) {
      const one = value();
      if (one !== undefined) all[member] = one;
    }
    return all;
  };
  const empty = members.length === 0 && h('p', { class: 'muted' }, t('Nothing to fill in.'));
  return { element: h('fieldset', { class: depth === 0 ? 'bare' : '' }, name && h('legend', null, name), empty, elements), value: read };
}

function list({ document, found, name, changed, depth, isRequired }) {
  let items = [];
  const place = h('div', { class: 'items' });
  const add = () => {
    const item = formOf(document, found.items, { name: `${name} ${items.length + 1}`, isRequired: true, changed }, depth + 1);
    const row = h('div', { class: 'item' }, item.element, h('button', { type: 'button', class: 'button', on: { click: remove } }, t('Remove')));
    function remove() {
      items = items.filter((other) => other !== item);
      row.remove();
      changed();
    }
    items.push(item);
    place.append(row);
    changed();
  };
  if (isRequired) queueMicrotask(add);
  const read = () => (items.length === 0 && !isRequired ? undefined : items.map((item) => item.value()));
  return { element: h('fieldset', null, h('legend', null, name), place, h('button', { type: 'button', class: 'button', on: { click: add } }, t('Add'))), value: read };
}

function json({ found, preset, changed, ...context }) {
  const control = h('textarea', { rows: '3', class: 'mono', spellcheck: 'false', id: freshId(), on: { input: changed } });
  control.value = preset === undefined ? '' : stringify(preset, 2);
  const read = () => {
    if (control.value.trim() === '') return undefined;
    try {
      return parse(control.value);
    } catch {
      return control.value;
    }
  };
  return { element: field(`${labelOf(context)} (JSON)`, control, hintOf(found)), value: read };
}
