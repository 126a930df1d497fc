// A real Chromium over the server under test, which notes everything that should not happen.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

/** Where the server under test listens. */
export const BASE = process.env.CONSOLE_URL;
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--enable-precise-memory-info'];

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS });

/** A page with `troubles`: errors, violations of the policy, and requests to other origins. */
export async function open(browser, { width = 1280, theme = 'light', allowed = [], base = BASE, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height: 860 }, colorScheme: theme, reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  const troubles = [];
  page.on('pageerror', (error) => troubles.push(`error: ${error.message}`));
  page.on('console', (message) => {
    const { url } = message.location();
    const isExpected = message.text().startsWith('Failed to load resource') && allowed.some((pattern) => pattern.test(url));
    if (['error', 'warning'].includes(message.type()) && !isExpected) troubles.push(`${message.type()}: ${message.text()} ${url}`);
  });
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith('data:')) troubles.push(`foreign request: ${url}`);
  });
  page.on('dialog', (dialog) => {
    troubles.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
  });
  page.setDefaultTimeout(60_000);
  return { page, context, troubles };
}

/** Goes to a page of the console, afresh. */
export async function visit(page, hash, base = BASE) {
  await page.goto('about:blank');
  await page.goto(`${base}/console${hash}`);
  await page.waitForSelector('main h1');
}

/** Waits until nothing is loading any more. */
export const settled = (page) => page.waitForFunction(() => !document.querySelector('main .spinner, main [aria-busy]'));

/** What axe finds wrong, as sentences. */
export async function axe(page) {
  // As a text of the debugger: no policy of the page concerns it.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target.join(' ')} ${node.failureSummary}`));
}

export const violations = (page) => page.evaluate(() => window.violations);
