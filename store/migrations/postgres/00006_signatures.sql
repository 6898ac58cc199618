-- +goose Up
-- Whom a tag's signature was verified to be of: a user id or a principal, the
-- key's fingerprint, and OpenPGP or SSH. Empty where it was not verified.
ALTER TABLE releases ADD COLUMN signer text NOT NULL DEFAULT '';
ALTER TABLE releases ADD COLUMN signer_key text NOT NULL DEFAULT '';
ALTER TABLE releases ADD COLUMN signer_kind text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE releases DROP COLUMN signer_kind;
ALTER TABLE releases DROP COLUMN signer_key;
ALTER TABLE releases DROP COLUMN signer;
