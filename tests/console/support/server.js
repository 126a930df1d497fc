// Commands and questions to the server under test, past the console.

import { BASE } from './browser.js';

/** A body that is a text already goes as it is: it may hold numbers that JavaScript does not. */
export async function request(method, path, body, headers = {}) {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const response = await fetch(BASE + path, { method, headers: { 'content-type': 'application/json', ...headers }, body: text });
  const answer = await response.text();
  return { status: response.status, data: answer.startsWith('{') || answer.startsWith('[') ? JSON.parse(answer) : answer };
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

/** A transfer to an account that is closed: the deposit is refused, and would be tried again tomorrow. */
export async function waitingTransfer(from, closed, amount) {
  const started = await request('POST', '/api/v1/sagas', { saga_type: 'TransferSaga', data: { from_account: from, to_account: closed, amount } });
  if (started.status !== 202) throw new Error(JSON.stringify(started.data));
  const path = `/api/v1/sagas/${started.data.saga_id}`;
  await eventually('the deposit is refused', async () => (await request('GET', path)).data.steps?.[1]?.error);
  return (await request('GET', path)).data;
}

/** Cancels a saga; answers how it stands once it is over. */
export async function cancelled(id) {
  const path = `/api/v1/sagas/${id}`;
  await request('POST', `${path}/cancel`);
  await eventually('the saga is over', async () => ['compensated', 'failed'].includes((await request('GET', path)).data.status));
  return (await request('GET', path)).data;
}

/** A branch, and commands that were sent to it. */
export async function branch(name, fork, commands) {
  const made = await request('POST', '/api/v1/branches', { name, ...fork });
  if (made.status !== 201) throw new Error(JSON.stringify(made.data));
  const id = made.data.branch_id;
  for (const [type, aggregate, data] of commands) {
    const answer = await request('POST', `/api/v1/commands?branch=${id}`, { command_type: type, aggregate_id: aggregate, data });
    if (answer.status !== 200) throw new Error(JSON.stringify(answer.data));
  }
  return id;
}

/** An account with some history, a saga that went well, one that waits and one that was undone. */
export async function seed(prefix) {
  const [from, to, closed] = [`${prefix}-from`, `${prefix}-to`, `${prefix}-closed`];
  await command('CreateAccount', from, { owner: 'Ada', initial_balance: 1000 });
  await command('CreateAccount', to, { owner: 'Grace', initial_balance: 0 });
  await command('CreateAccount', closed, { owner: 'C', initial_balance: 0 });
  await command('CloseAccount', closed, {});
  await command('DepositMoney', from, { amount: 50 });
  const completed = await saga('TransferSaga', { from_account: from, to_account: to, amount: 300 });
  const waiting = await waitingTransfer(from, closed, 20);
  const undone = await cancelled((await waitingTransfer(from, closed, 100)).saga_id);
  return { from, to, closed, completed, waiting, undone };
}
