// This console's own settings, and those of the server with where each comes from.

import { call, get } from '../base/api.js';
import { freshId, h, replace } from '../base/dom.js';
import { t } from '../base/i18n.js';
import { stringify } from '../base/json.js';
import { go } from '../base/router.js';
import { session } from '../base/session.js';
import { facts, field, heading, input, panel, select, table } from '../parts/controls.js';
import { announce } from '../parts/notice.js';
import { empty, show } from '../parts/states.js';
import { available } from '../parts/unavailable.js';

function consolePanel() {
  const token = h('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', class: 'mono wide' });
  token.value = session.token;
  const forget = () => {
    session.token = '';
    go(['settings']);
    announce(t('No token is sent any more.'), 'good');
  };
  const form = h('form', { class: 'row fields' }, field(t('Token'), token), h('button', { type: 'submit', class: 'button primary' }, t('Use it')), session.token !== '' && h('button', { type: 'button', class: 'button', on: { click: forget } }, t('Forget it')));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    session.token = token.value;
    go(['settings']);
    announce(token.value === '' ? t('No token is sent any more.') : t('The token is sent from now on.'), 'good');
  });
  const theme = select([['system', t('as the system')], ['light', t('light')], ['dark', t('dark')]], session.theme, { on: { change: () => (session.theme = theme.value) } });
  const language = select([['en', 'English'], ['ja', '日本語']], session.language, { on: { change: () => (session.language = language.value) } });
  return panel(t('This console'), form, h('p', { class: 'muted small' }, t('Sent as “Authorization: Bearer …”; kept until this tab is closed.')), h('div', { class: 'row fields apart' }, field(t('Theme'), theme), field(t('Language'), language)));
}

const text = (value) => (typeof value === 'string' ? value : stringify(value));
const shown = (value) => (value === null ? h('span', { class: 'muted' }, t('not set')) : text(value));

function settingsOf(items) {
  const source = (name) => (name === 'default' ? h('span', { class: 'muted' }, t('default')) : h('strong', null, name));
  const row = (item) => h('tr', null, h('th', { scope: 'row', class: 'mono breaks' }, item.key), h('td', { class: 'mono breaks' }, shown(item.value)), h('td', null, source(item.source)));
  const { frame } = table(t('Settings'), [[t('Key')], [t('Value')], [t('Source')]], items.map(row));
  frame.classList.add('settings');
  return frame;
}

function settingsTable(items) {
  const body = h('div');
  const search = input({ type: 'search', on: { input: () => draw() } });
  const own = h('input', { type: 'checkbox', id: freshId(), on: { change: () => draw() } });
  const draw = () => {
    const wanted = search.value.trim().toLowerCase();
    const passing = items.filter((item) => (!own.checked || item.source !== 'default') && `${item.key} ${text(item.value)} ${item.source}`.toLowerCase().includes(wanted));
    if (passing.length === 0) replace(body, empty(t('No setting passes'), t('Search for less.')));
    else replace(body, settingsOf(passing));
  };
  draw();
  const only = h('p', { class: 'row check-field' }, own, h('label', { for: own.id }, t('Only what was set')));
  return [h('div', { class: 'row fields' }, field(t('Search settings'), search), only), body];
}

export async function page({ signal }) {
  const settings = h('div');
  const server = h('div');
  show(settings, signal, () =>
    available(async () => {
      const { items } = await get('/api/v1/config', undefined, signal);
      return settingsTable(items);
    }, t('settings over HTTP')),
  );
  show(server, signal, async () => {
    const { data } = await call('GET', '/version', { signal });
    return facts(...Object.entries(data).map(([name, value]) => [name, h('span', { class: 'mono' }, shown(value))]));
  });
  return h('div', null, heading(t('Settings'), t('What is in force, and where it comes from.')), consolePanel(), panel(t('Server'), server), panel(t('Settings of the server'), settings));
}
