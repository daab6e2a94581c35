-- Latchkey in a PostgreSQL cluster, 13 to 18, RDS and Aurora included. Run it once per cluster; running it again is safe
-- and brings the functions up to date.
--
--   CREATE DATABASE latchkey;                                     -- of its own, owned by whoever runs this script
--   psql "dbname=latchkey ..." -v ON_ERROR_STOP=1 -f install.sql
--   \password latchkey_opener        \password latchkey_closer    -- or: GRANT rds_iam TO latchkey_opener, latchkey_closer;
--   SELECT latchkey.register('breakglass', '8 hours');            -- for each role, with the longest window you allow
--
-- Run it as the RDS master user (CREATEROLE, owner of the database) or as a superuser. On PostgreSQL 16 and later the
-- master needs the ADMIN option on each role to be registered; it has it on the roles it created.
--
-- What comes of it:
--   latchkey_owner   cannot log in; owns the functions that alter a registered role
--   latchkey_killer  cannot log in; has the rights of the registered roles and owns the one function that ends sessions
--   latchkey_opener  logs in; may execute open, extend, narrow, close, sweep, and what only looks, and nothing else
--   latchkey_closer  logs in; may execute narrow, close, sweep, and what only looks: it can never open
-- The last two have no membership, no attribute and no right on any table. Every function acts on registered roles only,
-- by OID, and takes the name as text, because a comparison as type name would cut it at 63 bytes and hit another role.
--
-- SQLSTATEs that are raised here: 42704 not registered, 22023 end out of range, 55006 prepared transaction,
-- LK001 the role changed its identity, LK002 it could undo its own window, LK003 it can log in,
-- LK004 it cannot be registered or unregistered, LK005 somebody took LOGIN from it by hand, LK006 it can log in with
-- another password, LK007 not a SCRAM verifier.
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = pg_catalog, pg_temp;

-- The place, the roles, and for the length of this transaction the right to create objects in their names.
DO $$
DECLARE
  v_role text;
BEGIN
  IF current_database() <> 'latchkey' THEN
    RAISE EXCEPTION 'this is database "%": run the script in a database of its own, called "latchkey"', current_database();
  END IF;
  IF current_setting('server_version_num')::int < 130000 THEN
    RAISE EXCEPTION 'PostgreSQL 13 or later is needed';
  END IF;
  -- Who runs this may register roles later.
  PERFORM set_config('latchkey.dba', current_user, true);

  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'latchkey_owner') THEN
    CREATE ROLE latchkey_owner NOLOGIN CREATEROLE;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'latchkey_killer') THEN
    CREATE ROLE latchkey_killer NOLOGIN;
  END IF;
  -- The limits keep a stolen password from filling every connection slot. A closing takes one or two connections; if more
  -- than fifteen run at once, the others come again in a moment (53300), and one connection is enough for each.
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'latchkey_opener') THEN
    CREATE ROLE latchkey_opener LOGIN CONNECTION LIMIT 20;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'latchkey_closer') THEN
    CREATE ROLE latchkey_closer LOGIN CONNECTION LIMIT 30;
  END IF;

  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  IF EXISTS (SELECT FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
              WHERE d.datname = current_database() AND a.grantee = 0) THEN
    RAISE EXCEPTION 'everybody may still connect to this database: run the script as its owner';
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO latchkey_opener, latchkey_closer', current_database());

  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    FOREACH v_role IN ARRAY ARRAY['latchkey_owner', 'latchkey_killer'] LOOP
      IF current_setting('server_version_num')::int >= 160000 THEN
        EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT FALSE, SET TRUE', v_role);
      ELSE
        EXECUTE format('GRANT %I TO CURRENT_USER', v_role);
      END IF;
    END LOOP;
  END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS latchkey AUTHORIZATION latchkey_owner;

SET LOCAL ROLE latchkey_owner;
REVOKE ALL ON SCHEMA latchkey FROM PUBLIC;
GRANT USAGE ON SCHEMA latchkey TO latchkey_opener, latchkey_closer;
GRANT USAGE, CREATE ON SCHEMA latchkey TO latchkey_killer;

CREATE TABLE IF NOT EXISTS latchkey.target (
  role_name       name        PRIMARY KEY,
  role_oid        oid         NOT NULL UNIQUE,
  max_window      interval    NOT NULL,
  max_connections int         NOT NULL,
  registered_by   name        NOT NULL,
  registered_at   timestamptz NOT NULL
);
COMMENT ON TABLE latchkey.target IS 'The roles Latchkey may open and close; written by latchkey.register and latchkey.unregister.';
REVOKE ALL ON TABLE latchkey.target FROM PUBLIC;
GRANT SELECT ON TABLE latchkey.target TO latchkey_killer;
-- The password that was made for a window: a fingerprint of it while it stands, and why it could not be taken away.
ALTER TABLE latchkey.target ADD COLUMN IF NOT EXISTS password_id text, ADD COLUMN IF NOT EXISTS password_kept text;

-- Openings by the DBA in an outage, when nobody can be asked. reconcile adopts them as windows.
CREATE TABLE IF NOT EXISTS latchkey.opening_by_hand (
  role_oid    oid         NOT NULL,
  opened_at   timestamptz NOT NULL,
  opened_till timestamptz NOT NULL,
  opened_by   name        NOT NULL,
  reason      text        NOT NULL,
  PRIMARY KEY (role_oid, opened_at)
);
COMMENT ON TABLE latchkey.opening_by_hand IS 'Who opened which role by hand until when, and why; written by latchkey.open_by_hand.';
REVOKE ALL ON TABLE latchkey.opening_by_hand FROM PUBLIC;

-- Their results may change from one release to the next, which CREATE OR REPLACE cannot do.
DROP FUNCTION IF EXISTS latchkey.open(text, timestamptz);
DROP FUNCTION IF EXISTS latchkey.open(text, timestamptz, text, text);
DROP FUNCTION IF EXISTS latchkey.window_password(text);
DROP FUNCTION IF EXISTS latchkey.extend(text, timestamptz);
DROP FUNCTION IF EXISTS latchkey.narrow(text, timestamptz);
DROP FUNCTION IF EXISTS latchkey.close(text);
DROP FUNCTION IF EXISTS latchkey.state(text);
DROP FUNCTION IF EXISTS latchkey.registered();
DROP FUNCTION IF EXISTS latchkey.open_by_hand(text, timestamptz, text);
DROP FUNCTION IF EXISTS latchkey.openings_by_hand(text);
DROP FUNCTION IF EXISTS latchkey.registered_oid(text);
DROP FUNCTION IF EXISTS latchkey.register(text, interval, int);
DROP FUNCTION IF EXISTS latchkey.unregister(text);

-- The OID of a registered name, compared to the last byte.
CREATE FUNCTION latchkey.registered_oid(p_role text) RETURNS oid
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_oid oid;
BEGIN
  SELECT t.role_oid INTO v_oid FROM latchkey.target t WHERE t.role_name::text = p_role;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'role is not registered' USING ERRCODE = '42704', HINT = 'SELECT latchkey.register(role, max_window);';
  END IF;
  RETURN v_oid;
END $$;

-- Gives LOGIN until an end within the registered limit. The end is set in the same statement, so that a password login
-- ends by itself even if nobody is alive to close it. A later end of a role that can log in stays: it belongs to another
-- window, and narrow is for that. May wait for a lock: statement_timeout bounds it.
--
-- With a verifier, the role gets a password for this window in that same statement. Only a SCRAM-SHA-256 verifier is
-- taken, so that no password is ever sent here or logged; p_password_id is a fingerprint of the password behind it. While
-- the role can log in, another password is refused (LK006): it would lock out whoever was given the first.
CREATE FUNCTION latchkey.open(p_role text, p_until timestamptz, p_verifier text, p_password_id text) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_oid    oid := latchkey.registered_oid(p_role);
  v_target latchkey.target;
  v_role   record;
  v_limit  timestamptz;
  v_until  timestamptz := p_until;
BEGIN
  SELECT t.* INTO v_target FROM latchkey.target t WHERE t.role_oid = v_oid;
  SELECT r.rolname::text AS role_name, r.rolsuper, r.rolcreaterole INTO v_role FROM pg_roles r WHERE r.oid = v_oid;
  IF NOT FOUND OR v_role.role_name <> p_role THEN
    RAISE EXCEPTION 'role was renamed, dropped or re-created since it was registered' USING ERRCODE = 'LK001';
  END IF;
  IF v_role.rolsuper OR (v_role.rolcreaterole AND current_setting('server_version_num')::int < 160000) THEN
    RAISE EXCEPTION 'role could undo its own window' USING ERRCODE = 'LK002';
  END IF;
  -- It would hold a lock that nobody but its owner or a superuser can take away.
  IF EXISTS (SELECT FROM pg_prepared_xacts x WHERE x.owner::text = p_role) THEN
    RAISE EXCEPTION 'role owns a prepared transaction' USING ERRCODE = '55006';
  END IF;
  v_limit := clock_timestamp() + v_target.max_window;
  IF p_until IS NULL OR NOT isfinite(p_until) OR p_until <= clock_timestamp() OR p_until > v_limit THEN
    RAISE EXCEPTION 'end of window is in the past or out of range' USING ERRCODE = '22023';
  END IF;
  -- Stricter than PostgreSQL, which takes whatever it does not recognise for a password in clear.
  IF p_verifier IS NOT NULL
     AND (p_verifier !~ '^SCRAM-SHA-256\$[1-9][0-9]{3,5}:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$'
          OR p_password_id IS NULL OR p_password_id !~ '^[A-Za-z0-9_-]{43}$') THEN
    RAISE EXCEPTION 'this is not a SCRAM-SHA-256 verifier with its fingerprint' USING ERRCODE = 'LK007';
  END IF;
  -- From here on we hold the role's row: what is read now stays so until the end.
  EXECUTE format('ALTER ROLE %I CONNECTION LIMIT %s', p_role, v_target.max_connections);
  SELECT r.rolcanlogin, r.rolvaliduntil INTO v_role FROM pg_roles r WHERE r.oid = v_oid;
  IF v_role.rolvaliduntil > clock_timestamp() AND v_role.rolvaliduntil <= v_limit THEN
    -- close takes the end away with LOGIN. A role with an end that only open has set, and no LOGIN, lost it by hand: the
    -- database's owner has the last word.
    IF NOT v_role.rolcanlogin THEN
      RAISE EXCEPTION 'somebody took LOGIN from the role while it was open' USING ERRCODE = 'LK005',
        HINT = 'SELECT latchkey.close(role); lets it be opened again.';
    END IF;
    v_until := greatest(p_until, v_role.rolvaliduntil);
  END IF;
  IF p_verifier IS NULL THEN
    EXECUTE format('ALTER ROLE %I VALID UNTIL %L LOGIN', p_role, v_until);
  ELSE
    SELECT t.* INTO v_target FROM latchkey.target t WHERE t.role_oid = v_oid;
    IF v_role.rolcanlogin AND v_target.password_id IS DISTINCT FROM p_password_id THEN
      RAISE EXCEPTION 'role can log in with another password' USING ERRCODE = 'LK006';
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L VALID UNTIL %L LOGIN', p_role, p_verifier, v_until);
    UPDATE latchkey.target t SET password_id = p_password_id, password_kept = NULL WHERE t.role_oid = v_oid;
  END IF;
  -- It may have waited for a lock, past the end: that gives nothing.
  IF p_until <= clock_timestamp() THEN
    RAISE EXCEPTION 'window ended while it was being opened' USING ERRCODE = '22023';
  END IF;
  RETURN v_until;
END $$;

-- The same for a role whose password is the business of others.
CREATE FUNCTION latchkey.open(p_role text, p_until timestamptz) RETURNS timestamptz
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT latchkey.open(p_role, p_until, NULL, NULL)
$$;

-- Moves the end of a login to a later one within the registered limit. It gives no LOGIN, so it cannot undo a NOLOGIN that
-- somebody has made by hand, even at the same moment.
CREATE FUNCTION latchkey.extend(p_role text, p_until timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_oid    oid := latchkey.registered_oid(p_role);
  v_target latchkey.target;
  v_end    timestamptz;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = v_oid AND r.rolname::text = p_role) THEN
    RAISE EXCEPTION 'role was renamed, dropped or re-created since it was registered' USING ERRCODE = 'LK001';
  END IF;
  SELECT t.* INTO v_target FROM latchkey.target t WHERE t.role_oid = v_oid;
  IF p_until IS NULL OR NOT isfinite(p_until)
     OR p_until <= clock_timestamp() OR p_until > clock_timestamp() + v_target.max_window THEN
    RAISE EXCEPTION 'end of window is in the past or out of range' USING ERRCODE = '22023';
  END IF;
  EXECUTE format('ALTER ROLE %I CONNECTION LIMIT %s', p_role, v_target.max_connections);
  SELECT r.rolvaliduntil INTO v_end FROM pg_roles r WHERE r.oid = v_oid;
  IF v_end < p_until THEN
    EXECUTE format('ALTER ROLE %I VALID UNTIL %L', p_role, p_until);
  END IF;
END $$;

-- Moves the end of a login back, by OID: when a window ends early under one that is shorter. Never waits long.
CREATE FUNCTION latchkey.narrow(p_role text, p_until timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  v_oid  oid := latchkey.registered_oid(p_role);
  v_name text;
BEGIN
  IF p_until IS NULL THEN
    RAISE EXCEPTION 'no end was given' USING ERRCODE = '22023';
  END IF;
  SELECT r.rolname::text INTO v_name FROM pg_roles r
   WHERE r.oid = v_oid AND coalesce(r.rolvaliduntil, 'infinity') > p_until;
  IF FOUND THEN
    EXECUTE format('ALTER ROLE %I VALID UNTIL %L', v_name, p_until);
  END IF;
END $$;

-- Takes LOGIN, by OID: also from a role that was renamed or given attributes in between. Never refuses a registered role,
-- never waits long. Answers whether the role was then seen without LOGIN; its sessions are the business of sweep.
-- A password that was made for a window goes with it; one that the DBA set is left alone.
--   55P03  a session of the role holds its own row (BEGIN; ALTER ROLE CURRENT_USER PASSWORD ...)
--   XX000  "tuple concurrently updated": that session has just committed
-- After both: sweep with force, and close again.
CREATE FUNCTION latchkey.close(p_role text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  v_oid  oid := latchkey.registered_oid(p_role);
  v_name text;
  v_kept text;
BEGIN
  SELECT r.rolname::text INTO v_name FROM pg_roles r WHERE r.oid = v_oid;
  IF NOT FOUND THEN
    RETURN true;
  END IF;
  -- Also if it has no LOGIN already: an opening that is not committed yet is waited for, and undone.
  EXECUTE format('ALTER ROLE %I NOLOGIN', v_name);
  BEGIN
    EXECUTE format('ALTER ROLE %I VALID UNTIL %L', v_name, '1970-01-01T00:00:00Z');
  EXCEPTION WHEN OTHERS THEN
    NULL;  -- such as rds.restrict_password_commands: NOLOGIN must stand
  END;
  IF EXISTS (SELECT FROM latchkey.target t WHERE t.role_oid = v_oid AND t.password_id IS NOT NULL) THEN
    BEGIN
      EXECUTE format('ALTER ROLE %I PASSWORD NULL', v_name);
    EXCEPTION WHEN OTHERS THEN
      v_kept := SQLSTATE;  -- the same; latchkey.window_password tells
    END;
    BEGIN
      PERFORM FROM latchkey.target t WHERE t.role_oid = v_oid FOR UPDATE NOWAIT;
      UPDATE latchkey.target t
         SET password_id = CASE WHEN v_kept IS NOT NULL THEN t.password_id END, password_kept = v_kept
       WHERE t.role_oid = v_oid;
    EXCEPTION WHEN OTHERS THEN
      NULL;  -- somebody holds the row: the next closing writes it down
    END;
  END IF;
  RETURN (SELECT NOT r.rolcanlogin FROM pg_roles r WHERE r.oid = v_oid);
END $$;

-- What this server knows of a registered role. Changes nothing and works on a standby.
CREATE FUNCTION latchkey.state(p_role text,
  OUT role_oid oid, OUT current_name text, OUT name_taken boolean, OUT can_login boolean, OUT valid_until timestamptz,
  OUT sessions bigint, OUT starting bigint, OUT prepared bigint, OUT in_recovery boolean, OUT members text[],
  OUT is_superuser boolean, OUT is_createrole boolean, OUT could_undo boolean, OUT manageable boolean,
  OUT max_window_seconds bigint, OUT max_connections int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_before_16 boolean := current_setting('server_version_num')::int < 160000;
BEGIN
  role_oid := latchkey.registered_oid(p_role);
  SELECT extract(epoch FROM t.max_window)::bigint, t.max_connections INTO max_window_seconds, max_connections
    FROM latchkey.target t WHERE t.role_oid = state.role_oid;
  SELECT r.rolname::text, r.rolcanlogin, r.rolvaliduntil, r.rolsuper, r.rolcreaterole
    INTO current_name, can_login, valid_until, is_superuser, is_createrole
    FROM pg_roles r WHERE r.oid = state.role_oid;
  -- A dropped role can do nothing. Years that a program cannot read are as good as infinity.
  can_login := coalesce(can_login, false);
  is_superuser := coalesce(is_superuser, false);
  is_createrole := coalesce(is_createrole, false);
  valid_until := CASE WHEN valid_until >= '10000-01-01 00:00:00+00' THEN 'infinity'
                      WHEN valid_until < '0001-01-01 00:00:00+00' THEN '-infinity'
                      ELSE valid_until END;
  name_taken := EXISTS (SELECT FROM pg_roles r WHERE r.rolname::text = p_role AND r.oid <> state.role_oid);
  could_undo := is_superuser OR (is_createrole AND v_before_16);

  SELECT count(*) INTO sessions FROM pg_stat_activity a WHERE a.usesysid = state.role_oid;
  -- Past the login check, but not yet shown with a role: no row up to PostgreSQL 17, state "starting" since 18.
  SELECT count(DISTINCT l.pid) INTO starting FROM pg_locks l
   WHERE l.locktype = 'virtualxid' AND l.pid <> pg_backend_pid()
     AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.usesysid IS NOT NULL);
  SELECT count(*) INTO prepared FROM pg_prepared_xacts x WHERE x.owner::text = current_name;
  in_recovery := pg_is_in_recovery();

  -- The options of a membership are columns since PostgreSQL 16 only, hence to_jsonb.
  SELECT coalesce(array_agg(DISTINCT r.rolname::text ORDER BY r.rolname::text), '{}') INTO members
    FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
   WHERE m.roleid = state.role_oid AND r.rolname NOT IN ('latchkey_owner', 'latchkey_killer')
     AND (coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true)
          OR coalesce((to_jsonb(m) ->> 'set_option')::boolean, true));
  manageable := current_name IS NOT NULL AND NOT is_superuser
    AND pg_has_role('latchkey_killer', state.role_oid, 'USAGE')
    AND CASE WHEN v_before_16 THEN NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = state.role_oid AND r.rolreplication)
             ELSE EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
                           WHERE m.roleid = state.role_oid AND r.rolname = 'latchkey_owner' AND m.admin_option) END;
END $$;

-- The fingerprint of the password that was made for a window and stands; and, after a closing that could not take it away,
-- the SQLSTATE of that. Changes nothing and works on a standby.
CREATE FUNCTION latchkey.window_password(p_role text, OUT password_id text, OUT password_kept text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  SELECT t.password_id, t.password_kept INTO window_password.password_id, window_password.password_kept
    FROM latchkey.target t WHERE t.role_oid = latchkey.registered_oid(p_role);
END $$;

-- Called by the DBA in an outage, when nobody can be asked: the same checks and the same limit as any opening, and an end
-- that PostgreSQL keeps by itself. Latchkey adopts it as a window, tells those on call, and closes it like any.
CREATE FUNCTION latchkey.open_by_hand(p_role text, p_until timestamptz, p_reason text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_until timestamptz;
BEGIN
  IF p_reason IS NULL OR btrim(p_reason) = '' OR length(p_reason) > 1000 THEN
    RAISE EXCEPTION 'say why, in 1 to 1000 characters' USING ERRCODE = '22023';
  END IF;
  -- Whoever took LOGIN by hand may give it by hand.
  IF EXISTS (SELECT FROM pg_roles r WHERE r.oid = latchkey.registered_oid(p_role) AND NOT r.rolcanlogin) THEN
    PERFORM latchkey.narrow(p_role, '1970-01-01T00:00:00Z');
  END IF;
  v_until := latchkey.open(p_role, date_trunc('second', p_until));
  INSERT INTO latchkey.opening_by_hand (role_oid, opened_at, opened_till, opened_by, reason)
  VALUES (latchkey.registered_oid(p_role), clock_timestamp(), v_until, session_user, p_reason);
  RETURN format('%s can log in until %s; Latchkey closes it then. To close it before: SELECT latchkey.close(%L);',
                quote_ident(p_role), v_until, p_role);
END $$;

-- The openings by hand of a registered role that are not over.
CREATE FUNCTION latchkey.openings_by_hand(p_role text,
  OUT opened_at timestamptz[], OUT opened_till timestamptz[], OUT opened_by text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  SELECT coalesce(array_agg(h.opened_at ORDER BY h.opened_at), '{}'),
         coalesce(array_agg(h.opened_till ORDER BY h.opened_at), '{}'),
         coalesce(array_agg(h.opened_by::text ORDER BY h.opened_at), '{}')
    INTO openings_by_hand.opened_at, openings_by_hand.opened_till, openings_by_hand.opened_by
    FROM latchkey.opening_by_hand h
   WHERE h.role_oid = latchkey.registered_oid(p_role) AND h.opened_till > clock_timestamp();
END $$;

-- The names under which roles are registered: where a sweep of the whole cluster begins.
CREATE FUNCTION latchkey.registered() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.role_name::text FROM latchkey.target t ORDER BY 1
$$;

-- Called by the DBA, with the DBA's own rights. Again with other limits is fine.
CREATE FUNCTION latchkey.register(p_role text, p_max_window interval, p_max_connections int DEFAULT 10) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_before_16 boolean := current_setting('server_version_num')::int < 160000;
  v_role      record;
  v_other     text;
BEGIN
  SELECT r.* INTO v_role FROM pg_roles r WHERE r.rolname::text = p_role;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no role %', quote_ident(p_role) USING ERRCODE = 'LK004';
  END IF;
  IF p_role ~ '^(pg_|rds|latchkey_)' OR v_role.rolname IN (current_user, session_user) THEN
    RAISE EXCEPTION 'role % belongs to the system, to Latchkey or to you', quote_ident(p_role) USING ERRCODE = 'LK004',
      HINT = 'Register a role made for privileged access.';
  END IF;
  IF v_role.rolsuper OR (v_role.rolcreaterole AND v_before_16) THEN
    RAISE EXCEPTION 'role % could undo its own window', quote_ident(p_role) USING ERRCODE = 'LK004',
      HINT = 'Take SUPERUSER from it, and before PostgreSQL 16 CREATEROLE too.';
  END IF;
  IF v_role.rolreplication AND v_before_16 THEN
    RAISE EXCEPTION 'before PostgreSQL 16 only a superuser can alter role %, because it has REPLICATION', quote_ident(p_role)
      USING ERRCODE = 'LK004';
  END IF;
  IF has_database_privilege(v_role.oid, current_database(), 'CONNECT') THEN
    RAISE EXCEPTION 'role % may connect to this database', quote_ident(p_role) USING ERRCODE = 'LK004',
      HINT = 'Only you, latchkey_opener and latchkey_closer may; revoke CONNECT from it and from the roles it is a member of.';
  END IF;
  IF p_max_window IS NULL OR p_max_window <= interval '0' OR p_max_window > interval '366 days' THEN
    RAISE EXCEPTION 'the longest window must be more than nothing and at most 366 days' USING ERRCODE = '22023';
  END IF;
  IF p_max_connections IS NULL OR p_max_connections NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'the connection limit must be between 1 and 1000' USING ERRCODE = '22023';
  END IF;
  SELECT t.role_name::text INTO v_other FROM latchkey.target t WHERE t.role_oid = v_role.oid AND t.role_name::text <> p_role;
  IF FOUND THEN
    RAISE EXCEPTION 'this role is registered under its former name %', quote_ident(v_other) USING ERRCODE = 'LK004',
      HINT = format('SELECT latchkey.unregister(%L);', v_other);
  END IF;

  IF v_before_16 THEN
    EXECUTE format('GRANT %I TO latchkey_killer', p_role);
  ELSE
    -- ADMIN lets latchkey_owner alter the role; without INHERIT and SET it can never act as it.
    EXECUTE format('GRANT %I TO latchkey_owner WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', p_role);
    EXECUTE format('GRANT %I TO latchkey_killer WITH ADMIN FALSE, INHERIT TRUE, SET FALSE', p_role);
  END IF;
  INSERT INTO latchkey.target AS t (role_name, role_oid, max_window, max_connections, registered_by, registered_at)
  VALUES (v_role.rolname, v_role.oid, p_max_window, p_max_connections, current_user, now())
  ON CONFLICT (role_name) DO UPDATE
     SET role_oid = excluded.role_oid, max_window = excluded.max_window, max_connections = excluded.max_connections,
         registered_by = excluded.registered_by, registered_at = excluded.registered_at,
         password_id = CASE WHEN t.role_oid = excluded.role_oid THEN t.password_id END;
  RETURN format('%s is registered: windows up to %s, %s connections; it %s', quote_ident(p_role), p_max_window,
                p_max_connections, CASE WHEN v_role.rolcanlogin THEN 'can log in now' ELSE 'cannot log in now' END);
END $$;

-- Called by the DBA. The role must be closed, so that no window is left without anybody who ends it.
CREATE FUNCTION latchkey.unregister(p_role text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_oid   oid;
  v_role  record;
  v_grant record;
BEGIN
  SELECT t.role_oid INTO v_oid FROM latchkey.target t WHERE t.role_name::text = p_role;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'role is not registered' USING ERRCODE = '42704';
  END IF;
  SELECT r.* INTO v_role FROM pg_roles r WHERE r.oid = v_oid;
  IF FOUND THEN
    IF v_role.rolcanlogin THEN
      RAISE EXCEPTION 'role % can log in', quote_ident(p_role) USING ERRCODE = 'LK004',
        HINT = format('End its window first, or close it yourself: SELECT latchkey.close(%L);', p_role);
    END IF;
    FOR v_grant IN
      SELECT m.member::regrole::text AS member, g.rolname::text AS grantor
        FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.grantor
       WHERE m.roleid = v_oid AND m.member IN ('latchkey_owner'::regrole, 'latchkey_killer'::regrole)
    LOOP
      EXECUTE format('REVOKE %I FROM %s GRANTED BY %I', v_role.rolname, v_grant.member, v_grant.grantor);
    END LOOP;
  END IF;
  DELETE FROM latchkey.target t WHERE t.role_oid = v_oid;
  RETURN format('%s is not registered any more', quote_ident(p_role));
END $$;
SET LOCAL ROLE latchkey_killer;
DROP FUNCTION IF EXISTS latchkey.sweep(text, boolean);

-- Ends the sessions of a registered role on this server, those still starting too; works on a standby.
-- The owner, latchkey_killer, has the rights of the registered roles: hence fixed statements only, and none of them dynamic.
-- For a backend that is not a registered role's, pg_terminate_backend() is refused to it: safe to try unknown ones.
CREATE FUNCTION latchkey.sweep(p_role text, p_force boolean DEFAULT false, OUT ended_pids int[], OUT refused int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_oid      oid;
  v_closed   boolean;
  v_starting boolean;
  v_pids     int[];
  v_pid      int;
BEGIN
  ended_pids := '{}';
  refused := 0;
  SELECT t.role_oid, r.rolcanlogin IS NOT TRUE INTO v_oid, v_closed
    FROM latchkey.target t LEFT JOIN pg_roles r ON r.oid = t.role_oid WHERE t.role_name::text = p_role;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'role is not registered' USING ERRCODE = '42704';
  END IF;
  IF NOT (v_closed OR coalesce(p_force, false)) THEN
    RAISE EXCEPTION 'role can log in' USING ERRCODE = 'LK003';
  END IF;

  -- First those that can be seen, then those still starting.
  FOREACH v_starting IN ARRAY ARRAY[false, true] LOOP
    PERFORM pg_stat_clear_snapshot();
    IF NOT v_starting THEN
      v_pids := ARRAY(SELECT a.pid FROM pg_stat_activity a WHERE a.usesysid = v_oid AND a.pid <> pg_backend_pid());
    ELSE
      -- Past the login check, but not yet shown with a role: no row up to PostgreSQL 17, state "starting" since 18.
      v_pids := ARRAY(SELECT l.pid FROM pg_locks l WHERE l.locktype = 'virtualxid' AND l.pid <> pg_backend_pid()
           AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.usesysid IS NOT NULL));
      -- If a refusal cannot tell us whose backend it is, touch only those that are still starting a second later: an
      -- honest start takes milliseconds. So it is when the role may signal everybody, or when another registered role
      -- can log in.
      IF cardinality(v_pids) > 0
         AND (pg_has_role(current_user, 'pg_signal_backend', 'USAGE')
              OR EXISTS (SELECT FROM latchkey.target t JOIN pg_roles r ON r.oid = t.role_oid
                          WHERE t.role_oid <> v_oid AND r.rolcanlogin)) THEN
        PERFORM pg_sleep(1), pg_stat_clear_snapshot();
        v_pids := ARRAY(SELECT l.pid FROM pg_locks l WHERE l.locktype = 'virtualxid' AND l.pid = ANY (v_pids)
             AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.usesysid IS NOT NULL));
        IF NOT coalesce(p_force, false) AND EXISTS (SELECT FROM pg_roles r WHERE r.oid = v_oid AND r.rolcanlogin) THEN
          RAISE EXCEPTION 'role can log in by now' USING ERRCODE = 'LK003';
        END IF;
      END IF;
    END IF;
    FOREACH v_pid IN ARRAY v_pids LOOP
      BEGIN
        IF pg_terminate_backend(v_pid) THEN
          ended_pids := ended_pids || v_pid;
        END IF;
      EXCEPTION WHEN insufficient_privilege THEN
        refused := refused + 1;
      END;
    END LOOP;
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION latchkey.sweep(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION latchkey.sweep(text, boolean) TO latchkey_opener, latchkey_closer;

SET LOCAL ROLE latchkey_owner;
REVOKE CREATE ON SCHEMA latchkey FROM latchkey_killer;
REVOKE ALL ON FUNCTION latchkey.registered_oid(text), latchkey.open(text, timestamptz), latchkey.close(text),
  latchkey.open(text, timestamptz, text, text), latchkey.window_password(text),
  latchkey.extend(text, timestamptz), latchkey.narrow(text, timestamptz),
  latchkey.state(text), latchkey.registered(), latchkey.openings_by_hand(text),
  latchkey.open_by_hand(text, timestamptz, text), latchkey.register(text, interval, int), latchkey.unregister(text)
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION latchkey.close(text), latchkey.narrow(text, timestamptz), latchkey.state(text),
  latchkey.registered(), latchkey.openings_by_hand(text), latchkey.window_password(text)
  TO latchkey_opener, latchkey_closer;
GRANT EXECUTE ON FUNCTION latchkey.open(text, timestamptz), latchkey.open(text, timestamptz, text, text),
  latchkey.extend(text, timestamptz) TO latchkey_opener;

-- The DBA registers, looks and closes by hand; the borrowed rights are given back.
DO $$
DECLARE
  v_dba  text := current_setting('latchkey.dba');
  v_role text;
BEGIN
  SET LOCAL ROLE latchkey_owner;
  EXECUTE format('GRANT USAGE ON SCHEMA latchkey TO %I', v_dba);
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE latchkey.target TO %I', v_dba);
  EXECUTE format('GRANT EXECUTE ON FUNCTION latchkey.register(text, interval, int), latchkey.unregister(text), '
                 'latchkey.close(text), latchkey.state(text), latchkey.registered(), '
                 'latchkey.openings_by_hand(text), latchkey.window_password(text), '
                 'latchkey.open_by_hand(text, timestamptz, text) TO %I', v_dba);
  SET LOCAL ROLE latchkey_killer;
  EXECUTE format('GRANT EXECUTE ON FUNCTION latchkey.sweep(text, boolean) TO %I', v_dba);
  PERFORM set_config('role', v_dba, true);
  IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    FOREACH v_role IN ARRAY ARRAY['latchkey_owner', 'latchkey_killer'] LOOP
      IF current_setting('server_version_num')::int >= 160000 THEN
        EXECUTE format('REVOKE %I FROM CURRENT_USER GRANTED BY CURRENT_USER', v_role);
      ELSE
        EXECUTE format('REVOKE %I FROM CURRENT_USER', v_role);
      END IF;
    END LOOP;
  END IF;
END $$;
COMMIT;
