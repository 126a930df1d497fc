-- For analysts: the read models as plain columns, always of the rows that are served. Read only what a query names: members
-- are taken out of the stored JSON one by one. How far the rows have come: `SELECT name, checkpoint FROM projections`.
-- Instants are RFC 3339 in UTC, flags 0 or 1.

-- The served rows of every projection.
CREATE VIEW served_rows AS
SELECT p.name AS projection, r.collection, r.grp, r.sort, r.data
FROM projections p JOIN view_rows r ON r.partition = p.partition AND r.generation = p.generation;

-- One row per account.
CREATE VIEW account_balances AS
SELECT data ->> 'account_id' AS account_id, data ->> 'owner' AS owner, data ->> 'balance' AS balance,
       data ->> 'status' AS status, data ->> 'version' AS version, data ->> 'updated_at' AS updated_at
FROM served_rows WHERE projection = 'account_balance' AND collection = 'accounts';

-- Every movement of money, in order of `position`.
CREATE VIEW account_transactions AS
SELECT data ->> 'account_id' AS account_id, data ->> 'sequence' AS sequence, data ->> 'position' AS position,
       data ->> 'kind' AS kind, data ->> 'amount' AS amount, data ->> 'balance_after' AS balance_after,
       data ->> 'transfer_id' AS transfer_id, data ->> 'at' AS at
FROM served_rows WHERE projection = 'account_balance' AND collection = 'transactions';

-- Each account's side of its transfers.
CREATE VIEW account_transfers AS
SELECT data ->> 'account_id' AS account_id, data ->> 'transfer_id' AS transfer_id, data ->> 'direction' AS direction,
       data ->> 'amount' AS amount, data ->> 'counterparty' AS counterparty, data ->> 'sequence' AS sequence,
       data ->> 'position' AS position, data ->> 'at' AS at
FROM served_rows WHERE projection = 'account_balance' AND collection = 'transfers';

-- Each transfer as a whole, both legs.
CREATE VIEW transfer_tracking AS
SELECT data ->> 'transfer_id' AS transfer_id, data ->> 'from_account' AS from_account, data ->> 'to_account' AS to_account,
       data ->> 'amount' AS amount, data ->> 'status' AS status, data ->> 'withdrawn_at' AS withdrawn_at,
       data ->> 'deposited_at' AS deposited_at, data ->> 'returned_at' AS returned_at
FROM served_rows WHERE projection = 'account_balance' AND collection = 'transfer_tracking';

-- One row per order.
CREATE VIEW orders_summary AS
SELECT data ->> 'order_id' AS order_id, data ->> 'customer_id' AS customer_id, data -> 'items' AS items,
       data ->> 'item_count' AS item_count, data ->> 'total' AS total, data ->> 'status' AS status,
       data ->> 'created_at' AS created_at, data ->> 'updated_at' AS updated_at, data ->> 'version' AS version,
       data ->> 'payment_reference' AS payment_reference, data ->> 'tracking' AS tracking,
       data ->> 'cancel_reason' AS cancel_reason
FROM served_rows WHERE projection = 'order_summary' AND collection = 'orders';

-- The orders of each customer.
CREATE VIEW customer_orders AS
SELECT data ->> 'customer_id' AS customer_id, data ->> 'order_id' AS order_id, data ->> 'status' AS status,
       data ->> 'total' AS total, data ->> 'item_count' AS item_count, data ->> 'created_at' AS created_at,
       data ->> 'updated_at' AS updated_at
FROM served_rows WHERE projection = 'order_summary' AND collection = 'customer_orders';

-- The orders that hold a product.
CREATE VIEW product_orders AS
SELECT data ->> 'product_id' AS product_id, data ->> 'order_id' AS order_id, data ->> 'customer_id' AS customer_id,
       data ->> 'quantity' AS quantity, data ->> 'unit_price' AS unit_price, data ->> 'status' AS status,
       data ->> 'created_at' AS created_at
FROM served_rows WHERE projection = 'order_summary' AND collection = 'product_orders';

-- One row per day (UTC).
CREATE VIEW daily_statistics AS
SELECT data ->> 'date' AS date, data ->> 'orders_created' AS orders_created,
       data ->> 'orders_cancelled' AS orders_cancelled, data ->> 'items_sold' AS items_sold,
       data ->> 'revenue' AS revenue
FROM served_rows WHERE projection = 'order_summary' AND collection = 'daily';

-- One row per product.
CREATE VIEW stock_levels AS
SELECT data ->> 'product_id' AS product_id, data ->> 'name' AS name, data ->> 'on_hand' AS on_hand,
       data ->> 'reserved' AS reserved, data ->> 'available' AS available,
       data ->> 'low_stock_threshold' AS low_stock_threshold, data ->> 'low' AS low, data ->> 'version' AS version,
       data ->> 'updated_at' AS updated_at
FROM served_rows WHERE projection = 'inventory' AND collection = 'stock';

-- Everything that changed a stock, in order of `position`.
CREATE VIEW stock_movements AS
SELECT data ->> 'product_id' AS product_id, data ->> 'sequence' AS sequence, data ->> 'position' AS position,
       data ->> 'kind' AS kind, data ->> 'quantity' AS quantity, data ->> 'on_hand_after' AS on_hand_after,
       data ->> 'reserved_after' AS reserved_after, data ->> 'order_id' AS order_id, data ->> 'reason' AS reason,
       data ->> 'at' AS at
FROM served_rows WHERE projection = 'inventory' AND collection = 'movements';

-- Products at or below their threshold.
CREATE VIEW low_stock AS
SELECT data ->> 'product_id' AS product_id, data ->> 'name' AS name, data ->> 'on_hand' AS on_hand,
       data ->> 'reserved' AS reserved, data ->> 'available' AS available,
       data ->> 'low_stock_threshold' AS low_stock_threshold, data ->> 'low' AS low, data ->> 'version' AS version,
       data ->> 'updated_at' AS updated_at
FROM served_rows WHERE projection = 'inventory' AND collection = 'low_stock';

-- One row per user.
CREATE VIEW users_summary AS
SELECT data ->> 'user_id' AS user_id, data ->> 'email' AS email, data ->> 'name' AS name, data ->> 'status' AS status,
       data ->> 'registered_at' AS registered_at, data ->> 'last_seen_at' AS last_seen_at,
       data ->> 'open_sessions' AS open_sessions, data ->> 'actions' AS actions, data ->> 'version' AS version
FROM served_rows WHERE projection = 'user_activity' AND collection = 'users';

-- The sessions of each user.
CREATE VIEW user_sessions AS
SELECT data ->> 'user_id' AS user_id, data ->> 'session_id' AS session_id, data ->> 'opened_at' AS opened_at,
       data ->> 'closed_at' AS closed_at, data ->> 'open' AS open
FROM served_rows WHERE projection = 'user_activity' AND collection = 'sessions';

-- What each user did, in order of `position`.
CREATE VIEW user_activity AS
SELECT data ->> 'user_id' AS user_id, data ->> 'kind' AS kind, data ->> 'action' AS action,
       data ->> 'session_id' AS session_id, data -> 'details' AS details, data ->> 'at' AS at,
       data ->> 'position' AS position
FROM served_rows WHERE projection = 'user_activity' AND collection = 'activity';
