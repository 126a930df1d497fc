// The search palette: pages, ids and positions by a few keys. `/` opens it anywhere.

import { get } from '../base/api.js';
import { h, icon, replace } from '../base/dom.js';
import { t } from '../base/i18n.js';
import { link } from '../base/router.js';
import { pages } from './pages.js';

const LOOKUP_MS = 120;
const NEAR_MAX = 6;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A text that stands just before this one in the order of ids, so that a list that goes on after it begins here. */
function before(text) {
  const characters = [...text];
  const last = characters.pop().codePointAt(0);
  const isPlain = last > 0x20 && (last < 0x7f || last > 0xa0) && (last < 0xd800 || last > 0xe000);
  return isPlain ? `${characters.join('')}${String.fromCodePoint(last - 1)}\u{10fffd}` : text;
}

class Palette {
  constructor() {
    this.options = [];
    this.chosen = 0;
    this.input = h('input', { type: 'text', role: 'combobox', 'aria-expanded': 'true', 'aria-controls': 'palette-list', 'aria-autocomplete': 'list', 'aria-label': t('Search'), placeholder: t('Page, aggregate, saga, correlation or position'), autocomplete: 'off', spellcheck: 'false' });
    this.list = h('ul', { id: 'palette-list', role: 'listbox', 'aria-label': t('Results') });
    this.dialog = h('dialog', { class: 'palette', 'aria-label': t('Search') }, h('div', { class: 'palette-field' }, icon('search'), this.input), this.list, h('p', { class: 'muted small palette-foot' }, h('kbd', null, '↑'), ' ', h('kbd', null, '↓'), ' ', t('choose'), '  ', h('kbd', null, 'Enter'), ' ', t('open it'), '  ', h('kbd', null, 'Esc'), ' ', t('close')));
    this.input.addEventListener('input', () => this.search());
    this.dialog.addEventListener('keydown', (event) => this.key(event));
    this.dialog.addEventListener('click', (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener('close', () => this.dialog.remove());
  }

  open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.search();
    this.input.focus();
  }

  key(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) {
      event.preventDefault();
      this.chosen = (this.chosen + move + this.options.length) % Math.max(1, this.options.length);
      this.mark();
    } else if (event.key === 'Enter') {
      event.preventDefault();
      this.take(this.options[this.chosen]);
    }
  }

  take(option) {
    if (!option) return;
    this.dialog.close();
    if (location.hash === option.href) dispatchEvent(new HashChangeEvent('hashchange'));
    else location.hash = option.href;
  }

  search() {
    const text = this.input.value.trim();
    const wanted = text.toLowerCase();
    const found = pages().filter(({ title, path }) => title.toLowerCase().includes(wanted) || path.includes(wanted)).map(({ title, path }) => ({ kind: t('Page'), text: title, href: link([path]) }));
    const guesses = [];
    if (/^\d+$/.test(text)) guesses.push({ kind: t('Position'), text, href: link(['events'], { position: text }) }, { kind: t('Proof'), text, href: link(['integrity'], { position: text }) });
    if (text !== '' && !/^\d+$/.test(text)) {
      if (UUID.test(text)) guesses.push({ kind: t('Saga'), text, href: link(['sagas', text]) }, { kind: t('Correlation'), text, href: link(['causation', text]) });
      guesses.push({ kind: t('Aggregate'), text, href: link(['aggregates', text]) });
    }
    this.show(text === '' ? found : [...found, ...guesses]);
    clearTimeout(this.timer);
    if (text !== '') this.timer = setTimeout(() => this.lookUp(text), LOOKUP_MS);
  }

  /** Adds the ids that begin with the text. */
  async lookUp(text) {
    try {
      const { items } = await get('/api/v1/aggregates', { cursor: before(text), limit: NEAR_MAX });
      if (!this.dialog.open || this.input.value.trim() !== text) return;
      const near = items.filter((item) => item.aggregate_id.startsWith(text)).map((item) => ({ kind: item.aggregate_type, text: item.aggregate_id, href: link([item.aggregate_type === 'saga' ? 'sagas' : 'aggregates', item.aggregate_id]) }));
      const rest = this.options.filter((option) => !near.some((other) => other.href === option.href));
      const pagesFirst = rest.filter((option) => option.kind === t('Page'));
      this.show([...pagesFirst, ...near, ...rest.filter((option) => !pagesFirst.includes(option))]);
    } catch {
      // Guesses stand; opening one tells what is wrong.
    }
  }

  show(options) {
    this.options = options;
    this.chosen = 0;
    replace(this.list, options.map((option, index) => h('li', { role: 'option', id: `option-${index}`, on: { click: () => this.take(option), pointermove: () => this.hover(index) } }, h('span', { class: 'muted small' }, option.kind), h('span', { class: 'palette-text' }, option.text))));
    this.mark();
  }

  hover(index) {
    if (this.chosen === index) return;
    this.chosen = index;
    this.mark();
  }

  mark() {
    [...this.list.children].forEach((item, index) => item.setAttribute('aria-selected', String(index === this.chosen)));
    const current = this.list.children[this.chosen];
    if (!current) return;
    this.input.setAttribute('aria-activedescendant', current.id);
    current.scrollIntoView({ block: 'nearest' });
  }
}

export function openPalette() {
  if (document.querySelector('dialog[open]')) return;
  new Palette().open();
}
