// Commands and questions to the server under test, past the console.

import { BASE } from './browser.js';

export async function request(method, path, body, headers = {}) {
  const response = await fetch(BASE + path, { method, headers: { 'content-type': 'application/json', ...headers }, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await response.text();
  return { status: response.status, data: text.startsWith('{') || text.startsWith('[') ? JSON.parse(text) : text };
}

/** A command that must be accepted. */
export async function command(type, id, data) {
  const answer = await request('POST', '/api/v1/commands', { command_type: type, aggregate_id: id, data });
  if (answer.status !== 200) throw new Error(`${type} ${id}: ${JSON.stringify(answer.data)}`);
  return answer.data;
}

/** A saga, started and waited for. */
export async function saga(type, data) {
  const answer = await request('POST', '/api/v1/sagas', { saga_type: type, data }, { prefer: 'wait=20' });
  if (answer.status >= 300) throw new Error(JSON.stringify(answer.data));
  return answer.data;
}

/** Events of a generic stream. */
export async function append(id, events) {
  const answer = await request('POST', '/api/v1/events', { aggregate_id: id, aggregate_type: 'generic', events });
  if (answer.status !== 201) throw new Error(JSON.stringify(answer.data));
  return answer.data;
}

/** Waits for a condition. */
export async function eventually(what, condition) {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 50))) {
    if (await condition()) return;
  }
  throw new Error(`waited 60 s for this: ${what}`);
}

/** Waits until a checkpoint covers a position. */
export const sealed = (position) =>
  eventually(`position ${position} is sealed`, async () => {
    const { status, data } = await request('GET', '/api/v1/integrity/checkpoint');
    return status === 200 && Number(String(data).split('\n')[1]) >= position;
  });

/** An account with some history, a saga that went well and one that was undone. */
export async function seed(prefix) {
  const [from, to, closed] = [`${prefix}-from`, `${prefix}-to`, `${prefix}-closed`];
  await command('CreateAccount', from, { owner: 'Ada', initial_balance: 1000 });
  await command('CreateAccount', to, { owner: 'Grace', initial_balance: 0 });
  await command('CreateAccount', closed, { owner: 'C', initial_balance: 0 });
  await command('CloseAccount', closed, {});
  await command('DepositMoney', from, { amount: 50 });
  const completed = await saga('TransferSaga', { from_account: from, to_account: to, amount: 300 });
  const undone = await saga('TransferSaga', { from_account: from, to_account: closed, amount: 100 });
  return { from, to, closed, completed, undone };
}
