-- What the client writes into: numbered rows.
CREATE ROLE ledger LOGIN PASSWORD 'ledger';
CREATE DATABASE ledger OWNER ledger;
\connect ledger
SET ROLE ledger;
CREATE TABLE ledger (n bigint PRIMARY KEY, written timestamptz NOT NULL DEFAULT clock_timestamp());
