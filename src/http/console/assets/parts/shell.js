// The frame around every page: menu, search, theme and language, and the place where news is told.

import { h, icon } from '../base/dom.js';
import { t } from '../base/i18n.js';
import { link } from '../base/router.js';
import { isDark, session } from '../base/session.js';
import { iconButton } from './controls.js';
import { noticePlace } from './notice.js';
import { groups } from './pages.js';
import { openPalette } from './palette.js';

/** Builds the frame; answers where pages go and how the menu learns which one is shown. */
export function shell() {
  const outlet = h('main', { id: 'main', tabindex: '-1' });
  const links = new Map();
  const menu = groups().map(([title, list]) => [
    h('h2', { class: 'menu-title' }, title),
    h('ul', null, list.map(({ path, title: name }) => {
      const anchor = h('a', { href: link([path]) }, icon(path), name);
      links.set(path, anchor);
      return h('li', null, anchor);
    })),
  ]);
  const nav = h('nav', { id: 'menu', 'aria-label': t('Pages') }, menu);
  const toggle = iconButton('menu', t('Menu'), () => open(nav.dataset.open !== 'true'), { 'aria-expanded': 'false', 'aria-controls': 'menu', class: 'icon-button menu-toggle' });
  const open = (isOpen) => {
    nav.dataset.open = String(isOpen);
    toggle.setAttribute('aria-expanded', String(isOpen));
  };
  const search = h('button', { type: 'button', class: 'search-button', on: { click: openPalette } }, icon('search'), h('span', null, t('Search')), h('kbd', null, '/'));
  const theme = iconButton('theme', t('Light or dark'), () => (session.theme = isDark() ? 'light' : 'dark'));
  const language = h('button', { type: 'button', class: 'icon-button language', lang: session.language === 'ja' ? 'en' : 'ja', 'aria-label': session.language === 'ja' ? 'EN: English' : 'JA: 日本語', on: { click: () => (session.language = session.language === 'ja' ? 'en' : 'ja') } }, session.language === 'ja' ? 'EN' : 'JA');
  const skip = h('a', { class: 'skip', href: '#main', on: { click: (event) => {
    event.preventDefault();
    outlet.focus();
  } } }, t('Skip to the content'));
  const brand = h('a', { class: 'brand', href: link(['overview']) }, h('span', { class: 'brand-mark', 'aria-hidden': 'true' }), h('span', null, 'event-sourcing-cqrs'));
  const frame = h('div', { class: 'frame' }, h('header', { class: 'top' }, toggle, brand, h('div', { class: 'top-tools' }, search, language, theme)), nav, outlet, noticePlace());
  const current = (path) => {
    open(false);
    for (const [name, anchor] of links) {
      if (name === path) anchor.setAttribute('aria-current', 'page');
      else anchor.removeAttribute('aria-current');
    }
  };
  return { nodes: [skip, frame], outlet, current };
}
