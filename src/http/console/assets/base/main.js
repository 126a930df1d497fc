// The start: the frame, then whichever page the address names, each with a signal that ends all it does when it is left.

import { openPalette } from '../parts/palette.js';
import { pages } from '../parts/pages.js';
import { shell } from '../parts/shell.js';
import { openSignIn } from '../parts/signin.js';
import { empty, failure, loading } from '../parts/states.js';
import { UNAUTHENTICATED } from './api.js';
import { h, replace } from './dom.js';
import { t } from './i18n.js';
import { here, link } from './router.js';
import { applyTheme, onChange, session } from './session.js';

let frame = null;
let leaving = new AbortController();
/** Whether this page has asked for a token already: who said no is asked again on the next page. */
let wasAsked = false;

function build() {
  document.documentElement.lang = session.language;
  frame = shell();
  replace(document.body, frame.nodes);
}

async function visit({ isFirst = false } = {}) {
  leaving.abort();
  leaving = new AbortController();
  wasAsked = false;
  const { signal } = leaving;
  const { segments, query } = here();
  const name = segments[0] ?? 'overview';
  const known = pages().find(({ path }) => path === name);
  frame.current(name);
  if (!known || (segments.length > 1 && !known.single)) {
    show(t('Not found'), h('div', null, h('h1', { tabindex: '-1' }, t('There is no such page')), empty(t('The address names no page of this console.'), t('Choose one from the menu, or press / to search.'), h('a', { class: 'button primary', href: link(['overview']) }, t('Overview')))), isFirst);
    return;
  }
  const module = segments.length > 1 ? known.single : known.module;
  const title = segments.length > 1 ? `${segments[1]} · ${known.title}` : known.title;
  const slow = setTimeout(() => replace(frame.outlet, h('h1', { class: 'hidden' }, title), loading()), 150);
  try {
    const element = await module.page({ segments, query, signal });
    clearTimeout(slow);
    if (!signal.aborted) show(title, element, isFirst);
  } catch (error) {
    clearTimeout(slow);
    if (!signal.aborted) show(title, h('div', null, h('h1', { tabindex: '-1', class: 'id' }, title), failure(error, () => visit())), isFirst);
  }
}

function show(title, element, isFirst) {
  document.title = `${title} · event-sourcing-cqrs`;
  replace(frame.outlet, element);
  if (isFirst) return;
  scrollTo(0, 0);
  frame.outlet.querySelector('h1')?.focus({ preventScroll: true });
}

const isTyping = (target) => target instanceof HTMLElement && (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName));

addEventListener('hashchange', () => visit());
addEventListener(UNAUTHENTICATED, () => {
  // Settings have a field of their own for it.
  if (wasAsked || here().segments[0] === 'settings') return;
  wasAsked = true;
  openSignIn(() => visit());
});
addEventListener('keydown', (event) => {
  const isSearch = event.key === '/' && !isTyping(event.target) && !event.ctrlKey && !event.metaKey && !event.altKey;
  if (isSearch || (event.key === 'k' && (event.ctrlKey || event.metaKey))) {
    event.preventDefault();
    openPalette();
  }
});
onChange((what) => {
  if (what !== 'language') return;
  build();
  visit();
});
applyTheme();
build();
visit({ isFirst: true });
