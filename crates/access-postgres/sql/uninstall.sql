-- Takes Latchkey out of a cluster again. Run it in the database latchkey, as whoever ran install.sql:
--
--   SELECT latchkey.unregister_membership(name::text) FROM latchkey.membership;  -- refuses one that is open
--   SELECT latchkey.unregister(role_name::text) FROM latchkey.target;            -- refuses a role that can log in
--   psql "dbname=latchkey ..." -v ON_ERROR_STOP=1 -f uninstall.sql
--   DROP DATABASE latchkey;                                                      -- from another database
--
-- It refuses while a role or a membership is registered: a window might be open, and nobody would end it.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $$
DECLARE
  v_dba        text := current_user;
  v_role       text;
  v_registered text;
BEGIN
  SELECT string_agg(quote_ident(n), ', ') INTO v_registered FROM latchkey.registered() n;
  IF v_registered IS NOT NULL THEN
    RAISE EXCEPTION 'still registered: %', v_registered USING ERRCODE = 'LK004',
      HINT = 'SELECT latchkey.unregister(role), or latchkey.unregister_membership(name);';
  END IF;

  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = v_dba) THEN
    FOREACH v_role IN ARRAY ARRAY['latchkey_owner', 'latchkey_killer'] LOOP
      IF current_setting('server_version_num')::int >= 160000 THEN
        EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT FALSE, SET TRUE', v_role);
      ELSE
        EXECUTE format('GRANT %I TO CURRENT_USER', v_role);
      END IF;
    END LOOP;
  END IF;
  SET LOCAL ROLE latchkey_killer;
  DROP FUNCTION latchkey.sweep(text, boolean), latchkey.sessions_of_membership(text, boolean), latchkey.is_open(text);
  DROP FUNCTION IF EXISTS latchkey.end_sessions(text);
  SET LOCAL ROLE latchkey_owner;
  DROP SCHEMA latchkey CASCADE;
  PERFORM set_config('role', v_dba, true);
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM latchkey_opener, latchkey_closer', current_database());
  DROP ROLE latchkey_opener, latchkey_closer, latchkey_killer, latchkey_owner;
END $$;
COMMIT;
