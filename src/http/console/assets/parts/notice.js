// Short news at the edge of the page, read out by screen readers; and questions before what cannot be undone.

import { h } from '../base/dom.js';
import { t } from '../base/i18n.js';

const SHOWN_MS = 6_000;
const NOTICES_MAX = 4;
let place = null;

export function noticePlace() {
  place = h('div', { class: 'notices', role: 'status', 'aria-live': 'polite' });
  return place;
}

/** Says something for some seconds. */
export function announce(text, tone = 'plain') {
  const notice = h('p', { class: `notice notice-${tone}` }, text);
  place?.append(notice);
  while (place && place.children.length > NOTICES_MAX) place.firstChild.remove();
  setTimeout(() => notice.remove(), SHOWN_MS);
}

/** Asks before something that matters; true when it is wanted. */
export function confirm(title, text, action) {
  return new Promise((resolve) => {
    const close = (answer) => () => dialog.close(answer);
    const dialog = h(
      'dialog',
      { class: 'dialog', 'aria-labelledby': 'confirm-title' },
      h('h2', { id: 'confirm-title' }, title),
      h('p', null, text),
      h(
        'div',
        { class: 'row row-end' },
        h('button', { type: 'button', class: 'button', on: { click: close('') } }, t('Leave it')),
        h('button', { type: 'button', class: 'button primary', on: { click: close('yes') } }, action),
      ),
    );
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(dialog.returnValue === 'yes');
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
