-- What the client writes into: numbered rows.
CREATE ROLE ledger LOGIN PASSWORD 'ledger';
CREATE DATABASE ledger OWNER ledger;
\connect ledger
SET ROLE ledger;
CREATE TABLE ledger (n bigint PRIMARY KEY, written timestamptz NOT NULL DEFAULT clock_timestamp());
RESET ROLE;
-- A new database is all in memory; written now, it does not make the first stop longer.
CHECKPOINT;
