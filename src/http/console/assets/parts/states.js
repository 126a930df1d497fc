// What stands where data is still to come, is absent, or could not be had: each says what to do next.

import { h } from '../base/dom.js';
import { t } from '../base/i18n.js';
import { link } from '../base/router.js';

export const loading = (text) => h('div', { class: 'state', role: 'status' }, h('span', { class: 'spinner', 'aria-hidden': 'true' }), text ?? t('Loading…'));

export const empty = (title, hint, ...actions) =>
  h('div', { class: 'state state-empty' }, h('p', { class: 'state-title' }, title), hint && h('p', { class: 'muted' }, hint), actions.length > 0 && h('div', { class: 'row' }, actions));

/** Why something failed, and the next step. */
export function failure(problem, retry) {
  const next = nextStep(problem);
  return h(
    'div',
    { class: `state state-error ${[401, 403].includes(problem.status) ? 'state-refused' : ''}`, role: 'alert' },
    h('p', { class: 'state-title' }, problem.document?.title ? String(problem.document.title) : t('That did not work')),
    h('p', null, problem.message),
    problem.errors?.length > 0 &&
      h('ul', { class: 'errors' }, problem.errors.map((error) => h('li', null, h('code', null, String(error.pointer)), ' ', String(error.detail)))),
    next && h('p', { class: 'muted' }, next),
    h(
      'div',
      { class: 'row' },
      retry && h('button', { type: 'button', class: 'button', on: { click: retry } }, t('Try again')),
      (problem.status === 401 || problem.status === 403) && h('a', { class: 'button', href: link(['settings']) }, t('Set a token')),
      problem.document?.trace_id && h('span', { class: 'muted small' }, t('Trace'), ' ', h('code', null, String(problem.document.trace_id))),
    ),
  );
}

function nextStep(problem) {
  switch (problem.status) {
    case 0:
      return t('Is the server running? The console tries again when you do.');
    case 401:
      return t('This server wants a token: put one into the settings of this console.');
    case 403:
      return t('Your token may not do this: ask for one with a role that may.');
    case 404:
      return t('Check the id, or look for it with the search (press /).');
    case 429:
    case 503:
      return t('The server asks for a pause. Try again in a moment.');
    default:
      return null;
  }
}

/** Shows the outcome of some work in a place: loading, then what came of it, or why nothing did. */
export async function show(place, signal, work, text) {
  place.replaceChildren(loading(text));
  place.setAttribute('aria-busy', 'true');
  try {
    const node = await work();
    if (!signal.aborted) place.replaceChildren(...[node].flat().filter(Boolean));
  } catch (error) {
    if (signal.aborted) return;
    place.replaceChildren(failure(error, () => show(place, signal, work, text)));
  } finally {
    place.removeAttribute('aria-busy');
  }
}
