// Asking for a token, where the server wants one: once a page, never in the way of somebody who said no.

import { h, replace } from '../base/dom.js';
import { t } from '../base/i18n.js';
import { session } from '../base/session.js';

/** Opens the question; `done` is called after a token was given. */
export function openSignIn(done) {
  if (document.querySelector('dialog[open]')) return;
  const token = h('input', { type: 'password', id: 'sign-in-token', class: 'mono', autocomplete: 'off', spellcheck: 'false', required: true });
  const told = h('p', null, session.token === '' ? t('This server lets in who proves who they are. Paste an API key or a token.') : t('The token of this tab is not accepted here, or not any more. Paste another one.'));
  const close = () => dialog.close();
  const form = h(
    'form',
    { class: 'sign-in' },
    h('h2', { id: 'sign-in-title' }, t('Who are you?')),
    told,
    h('div', { class: 'field' }, h('label', { for: 'sign-in-token' }, t('Token')), token),
    h('p', { class: 'muted small' }, t('Sent as “Authorization: Bearer …”; kept until this tab is closed.')),
    h('details', null, h('summary', null, t('Where do I get one?')), h('p', { class: 'small' }, t('On the machine of the store:')), h('p', null, h('code', null, 'event-sourcing-cqrs token create --role operator'))),
    h('div', { class: 'row row-end' }, h('button', { type: 'button', class: 'button', on: { click: close } }, t('Not now')), h('button', { type: 'submit', class: 'button primary' }, t('Use it'))),
  );
  const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'sign-in-title' }, form);
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (token.value.trim() === '') {
      replace(told, t('Paste an API key or a token.'));
      return;
    }
    session.token = token.value;
    close();
    done();
  });
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  token.focus();
}
