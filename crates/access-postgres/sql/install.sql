-- Latchkey in a PostgreSQL cluster, 13 to 18, RDS and Aurora included. Run it once per cluster; running it again is safe
-- and brings the functions up to date.
--
--   CREATE DATABASE latchkey;                                     -- of its own, owned by whoever runs this script
--   psql "dbname=latchkey ..." -v ON_ERROR_STOP=1 -f install.sql
--   \password latchkey_opener        \password latchkey_closer    -- or: GRANT rds_iam TO latchkey_opener, latchkey_closer;
--   SELECT latchkey.register('breakglass', '8 hours');            -- for each role, with the longest window you allow
--   SELECT latchkey.register_membership('riko-dba', 'dba', 'riko', '8 hours');  -- for each user who may become a member
--
-- Run it as the RDS master user (CREATEROLE, owner of the database) or as a superuser. On PostgreSQL 16 and later the
-- master needs the ADMIN option on each role to be registered; it has it on the roles it created.
--
-- What comes of it:
--   latchkey_owner   cannot log in; owns the functions that alter a registered role
--   latchkey_killer  cannot log in; has the rights of the registered roles and users and owns what ends their sessions
--   latchkey_opener  logs in; may execute open, open_membership, extend, narrow, close, sweep, end_sessions, and what only
--                    looks, and nothing else
--   latchkey_closer  logs in; may execute narrow, close, sweep, end_sessions, and what only looks: it can never open
-- The last two have no membership, no attribute and no right on any table. Every function acts on registered roles only,
-- by OID, and takes the name as text, because a comparison as type name would cut it at 63 bytes and hit another role.
--
-- Two kinds of access share one list of names. A role that is registered is opened by LOGIN. A membership that is registered
-- is opened by GRANT: for a window, its user may act as its role. extend, narrow, close, state and sweep take either name.
--
-- SQLSTATEs that are raised here: 42704 not registered, 22023 end out of range, 55006 prepared transaction,
-- LK001 the role changed its identity, LK002 it could undo its own window, LK003 it can log in,
-- LK004 it cannot be registered or unregistered, LK005 somebody took LOGIN from it by hand, LK006 it can log in with
-- another password, LK007 not a SCRAM verifier, LK008 the user is a member without Latchkey.
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

-- PostgreSQL ends no membership by itself, so the end stands here. A session that began at gone_since or before may still
-- act as the role, by a SET ROLE that it did in time: '-infinity' before the first window, 'infinity' during one.
CREATE TABLE IF NOT EXISTS latchkey.membership (
  name          name        PRIMARY KEY,
  role_name     name        NOT NULL,
  role_oid      oid         NOT NULL,
  user_name     name        NOT NULL,
  user_oid      oid         NOT NULL,
  max_window    interval    NOT NULL,
  open_until    timestamptz,
  gone_since    timestamptz NOT NULL DEFAULT '-infinity',
  registered_by name        NOT NULL,
  registered_at timestamptz NOT NULL,
  UNIQUE (role_oid, user_oid)
);
COMMENT ON TABLE latchkey.membership IS 'The memberships Latchkey may give and take; written by its functions only.';
REVOKE ALL ON TABLE latchkey.membership FROM PUBLIC;
GRANT SELECT ON TABLE latchkey.membership TO latchkey_killer;

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
DROP FUNCTION IF EXISTS latchkey.can_be_asked_for(text);
DROP FUNCTION IF EXISTS latchkey.register(text, interval, int);
DROP FUNCTION IF EXISTS latchkey.unregister(text);
DROP FUNCTION IF EXISTS latchkey.open_membership(text, text, text, timestamptz);
DROP FUNCTION IF EXISTS latchkey.close_membership(text);
DROP FUNCTION IF EXISTS latchkey.membership(text);
DROP FUNCTION IF EXISTS latchkey.membership_is_unsafe(oid, oid);
DROP FUNCTION IF EXISTS latchkey.is_membership(text);
DROP FUNCTION IF EXISTS latchkey.register_membership(text, text, text, interval);
DROP FUNCTION IF EXISTS latchkey.unregister_membership(text);

-- Whether this name is a registered membership's, compared to the last byte.
CREATE FUNCTION latchkey.is_membership(p_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM latchkey.membership m WHERE m.name::text = p_name)
$$;

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

-- Moves the end of an opening to a later one within the registered limit. It gives no LOGIN and grants nothing, so it cannot
-- undo a NOLOGIN or a REVOKE that somebody has made by hand, even at the same moment.
CREATE FUNCTION latchkey.extend(p_role text, p_until timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_oid        oid;
  v_max_window interval;
  v_limit      int;
  v_end        timestamptz;
BEGIN
  IF latchkey.is_membership(p_role) THEN
    SELECT m.max_window INTO v_max_window FROM latchkey.membership m WHERE m.name::text = p_role;
  ELSE
    v_oid := latchkey.registered_oid(p_role);
    IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = v_oid AND r.rolname::text = p_role) THEN
      RAISE EXCEPTION 'role was renamed, dropped or re-created since it was registered' USING ERRCODE = 'LK001';
    END IF;
    SELECT t.max_window, t.max_connections INTO v_max_window, v_limit FROM latchkey.target t WHERE t.role_oid = v_oid;
  END IF;
  IF p_until IS NULL OR NOT isfinite(p_until)
     OR p_until <= clock_timestamp() OR p_until > clock_timestamp() + v_max_window THEN
    RAISE EXCEPTION 'end of window is in the past or out of range' USING ERRCODE = '22023';
  END IF;
  IF v_oid IS NULL THEN
    UPDATE latchkey.membership m SET open_until = p_until WHERE m.name::text = p_role AND m.open_until < p_until;
    RETURN;
  END IF;
  EXECUTE format('ALTER ROLE %I CONNECTION LIMIT %s', p_role, v_limit);
  SELECT r.rolvaliduntil INTO v_end FROM pg_roles r WHERE r.oid = v_oid;
  IF v_end < p_until THEN
    EXECUTE format('ALTER ROLE %I VALID UNTIL %L', p_role, p_until);
  END IF;
END $$;

-- Moves the end of an opening back, by OID: when a window ends early under one that is shorter. Never waits long.
CREATE FUNCTION latchkey.narrow(p_role text, p_until timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  v_oid  oid;
  v_name text;
BEGIN
  IF p_until IS NULL THEN
    RAISE EXCEPTION 'no end was given' USING ERRCODE = '22023';
  END IF;
  IF latchkey.is_membership(p_role) THEN
    UPDATE latchkey.membership m SET open_until = p_until WHERE m.name::text = p_role AND m.open_until > p_until;
    RETURN;
  END IF;
  v_oid := latchkey.registered_oid(p_role);
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
-- After both: sweep with force, and close again. For a membership: close_membership.
CREATE FUNCTION latchkey.close(p_role text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '3s' AS $$
DECLARE
  v_oid  oid;
  v_name text;
  v_kept text;
BEGIN
  IF latchkey.is_membership(p_role) THEN
    RETURN latchkey.close_membership(p_role);
  END IF;
  v_oid := latchkey.registered_oid(p_role);
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

-- What this server knows of a registered role. Changes nothing and works on a standby. Of a membership, can_login is whether
-- the user is a member; role_oid is the role's, and members is by whom or through what the user is one beside Latchkey.
CREATE FUNCTION latchkey.state(p_role text,
  OUT role_oid oid, OUT current_name text, OUT name_taken boolean, OUT can_login boolean, OUT valid_until timestamptz,
  OUT sessions bigint, OUT starting bigint, OUT prepared bigint, OUT in_recovery boolean, OUT members text[],
  OUT is_superuser boolean, OUT is_createrole boolean, OUT could_undo boolean, OUT manageable boolean,
  OUT max_window_seconds bigint, OUT max_connections int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_before_16  boolean := current_setting('server_version_num')::int < 160000;
  v_membership record;
BEGIN
  in_recovery := pg_is_in_recovery();
  -- Past the login check, but not yet shown with a role: no row up to PostgreSQL 17, state "starting" since 18.
  SELECT count(DISTINCT l.pid) INTO starting FROM pg_locks l
   WHERE l.locktype = 'virtualxid' AND l.pid <> pg_backend_pid()
     AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.usesysid IS NOT NULL);
  IF latchkey.is_membership(p_role) THEN
    SELECT m.* INTO v_membership FROM latchkey.membership(p_role) m;
    role_oid := v_membership.role_oid;
    current_name := v_membership.current_name;
    name_taken := v_membership.name_taken;
    can_login := v_membership.is_member;
    valid_until := v_membership.valid_until;
    sessions := cardinality(latchkey.sessions_of_membership(p_role, false));
    prepared := v_membership.prepared;
    members := v_membership.held_by;
    is_superuser := false;
    is_createrole := false;
    could_undo := v_membership.unsafe;
    manageable := v_membership.manageable;
    max_window_seconds := v_membership.max_window_seconds;
    max_connections := 0;
    RETURN;
  END IF;
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
  SELECT count(*) INTO prepared FROM pg_prepared_xacts x WHERE x.owner::text = current_name;

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

-- The openings by hand of a registered role that are not over, or that nobody has closed since.
CREATE FUNCTION latchkey.openings_by_hand(p_role text,
  OUT opened_at timestamptz[], OUT opened_till timestamptz[], OUT opened_by text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  opened_at := '{}';
  opened_till := '{}';
  opened_by := '{}';
  -- A membership is opened by hand with GRANT, which says neither why nor until when.
  IF latchkey.is_membership(p_role) THEN
    RETURN;
  END IF;
  SELECT coalesce(array_agg(h.opened_at ORDER BY h.opened_at), '{}'),
         coalesce(array_agg(h.opened_till ORDER BY h.opened_at), '{}'),
         coalesce(array_agg(h.opened_by::text ORDER BY h.opened_at), '{}')
    INTO openings_by_hand.opened_at, openings_by_hand.opened_till, openings_by_hand.opened_by
    FROM latchkey.opening_by_hand h
   WHERE h.role_oid = latchkey.registered_oid(p_role)
     AND (h.opened_till > clock_timestamp()
          OR EXISTS (SELECT FROM pg_roles r
                      WHERE r.oid = h.role_oid AND r.rolcanlogin AND r.rolvaliduntil = h.opened_till));
END $$;

-- The names under which roles and memberships are registered: where a sweep of the whole cluster begins.
CREATE FUNCTION latchkey.registered() RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT t.role_name::text FROM latchkey.target t UNION ALL SELECT m.name::text FROM latchkey.membership m ORDER BY 1
$$;

-- Whether a request could name this, as far as that can be told here. Nobody would look after what none can.
CREATE FUNCTION latchkey.can_be_asked_for(p_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT p_name = btrim(p_name) AND p_name !~ '[[:cntrl:]]'
     AND CASE WHEN getdatabaseencoding() = 'UTF8' THEN p_name IS NFC NORMALIZED ELSE true END
$$;

-- Called by the DBA, with the DBA's own rights. Again with other limits is fine.
CREATE FUNCTION latchkey.register(p_role text, p_max_window interval, p_max_connections int DEFAULT 10) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_before_16 boolean := current_setting('server_version_num')::int < 160000;
  v_role      record;
  v_former    oid;
  v_other     text;
BEGIN
  SELECT r.* INTO v_role FROM pg_roles r WHERE r.rolname::text = p_role;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no role %', quote_ident(p_role) USING ERRCODE = 'LK004';
  END IF;
  IF p_role ~* '^(pg_|rds|latchkey_)' OR v_role.rolname IN (current_user, session_user) THEN
    RAISE EXCEPTION 'role % belongs to the system, to Latchkey or to you', quote_ident(p_role) USING ERRCODE = 'LK004',
      HINT = 'Register a role made for privileged access.';
  END IF;
  IF NOT latchkey.can_be_asked_for(p_role) THEN
    RAISE EXCEPTION 'no request could name the role %', quote_ident(p_role) USING ERRCODE = 'LK004',
      HINT = 'Rename it: without spaces around, control characters, and in Unicode normalization form C.';
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
  IF latchkey.is_membership(p_role) THEN
    RAISE EXCEPTION 'a membership is registered under the name %', quote_ident(p_role) USING ERRCODE = 'LK004',
      HINT = format('SELECT latchkey.unregister_membership(%L); and register it under another name.', p_role);
  END IF;
  SELECT t.role_name::text INTO v_other FROM latchkey.target t WHERE t.role_oid = v_role.oid AND t.role_name::text <> p_role;
  IF FOUND THEN
    RAISE EXCEPTION 'this role is registered under its former name %', quote_ident(v_other) USING ERRCODE = 'LK004',
      HINT = format('SELECT latchkey.unregister(%L);', v_other);
  END IF;

  -- What was opened under this name would else be watched by nobody.
  SELECT t.role_oid INTO v_former FROM latchkey.target t WHERE t.role_name::text = p_role AND t.role_oid <> v_role.oid;
  IF FOUND AND (EXISTS (SELECT FROM pg_roles r WHERE r.oid = v_former AND r.rolcanlogin)
                OR EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = v_former)) THEN
    RAISE EXCEPTION 'the role that is registered as % is another one, and can log in or has sessions', quote_ident(p_role)
      USING ERRCODE = 'LK004',
      HINT = format('Close it and end its sessions: SELECT latchkey.close(%L); then SELECT latchkey.sweep(%L);', p_role, p_role);
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
         AND NOT EXISTS (SELECT FROM latchkey.membership k WHERE v_oid IN (k.role_oid, k.user_oid))
    LOOP
      EXECUTE format('REVOKE %I FROM %s GRANTED BY %I', v_role.rolname, v_grant.member, v_grant.grantor);
    END LOOP;
  END IF;
  DELETE FROM latchkey.target t WHERE t.role_oid = v_oid;
  RETURN format('%s is not registered any more', quote_ident(p_role));
END $$;

-- Whether a user could undo a window in which it may act as this role: by becoming a superuser, by creating roles before
-- PostgreSQL 16, by being Latchkey's, or by passing the membership on.
CREATE FUNCTION latchkey.membership_is_unsafe(p_role_oid oid, p_user_oid oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_has_role(p_user_oid, p_role_oid, 'MEMBER WITH ADMIN OPTION')
      OR EXISTS (SELECT FROM pg_roles r
                  WHERE (pg_has_role(p_role_oid, r.oid, 'MEMBER') OR pg_has_role(p_user_oid, r.oid, 'MEMBER'))
                    AND (r.rolsuper OR (r.rolcreaterole AND current_setting('server_version_num')::int < 160000)
                         OR r.rolname IN ('latchkey_owner', 'latchkey_killer', 'pg_execute_server_program',
                                          'pg_read_server_files', 'pg_write_server_files')))
$$;

-- What the database says about a registered membership. Changes nothing and works on a standby.
--   current_name  the registered name if role and user still are what was registered, otherwise what they are called now
--   held_by       by whom, or through which role, the user is a member beside Latchkey: a closing cannot take that
--   acted_as_by   who can act as the user, and so during a window as the role; whoever registered it left out
CREATE FUNCTION latchkey.membership(p_name text,
  OUT role_oid oid, OUT role_name text, OUT user_oid oid, OUT user_name text, OUT current_name text, OUT name_taken boolean,
  OUT is_member boolean, OUT valid_until timestamptz, OUT prepared bigint, OUT held_by text[], OUT acted_as_by text[],
  OUT unsafe boolean, OUT manageable boolean, OUT max_window_seconds bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_before_16 boolean := current_setting('server_version_num')::int < 160000;
  v_row       latchkey.membership;
  v_role      text;
  v_user      text;
BEGIN
  SELECT m.* INTO v_row FROM latchkey.membership m WHERE m.name::text = p_name;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'membership is not registered' USING ERRCODE = '42704',
      HINT = 'SELECT latchkey.register_membership(name, role, user, max_window);';
  END IF;
  role_oid := v_row.role_oid;
  role_name := v_row.role_name;
  user_oid := v_row.user_oid;
  user_name := v_row.user_name;
  max_window_seconds := extract(epoch FROM v_row.max_window)::bigint;
  -- As with a login: an end that open has set, and 1970 once a closing has taken it away.
  valid_until := coalesce(v_row.open_until, CASE WHEN isfinite(v_row.gone_since) THEN timestamptz '1970-01-01T00:00:00Z' END);
  name_taken := EXISTS (SELECT FROM pg_roles r WHERE (r.rolname = v_row.role_name AND r.oid <> v_row.role_oid)
                                                  OR (r.rolname = v_row.user_name AND r.oid <> v_row.user_oid));
  SELECT r.rolname::text INTO v_role FROM pg_roles r WHERE r.oid = v_row.role_oid;
  SELECT r.rolname::text INTO v_user FROM pg_roles r WHERE r.oid = v_row.user_oid;
  SELECT count(*) INTO prepared FROM pg_prepared_xacts x WHERE x.owner::text IN (v_user, v_role);
  held_by := '{}';
  acted_as_by := '{}';
  IF v_role IS NULL OR v_user IS NULL THEN
    is_member := false;
    unsafe := false;
    manageable := false;
    RETURN;
  END IF;
  current_name := CASE WHEN v_role = role_name AND v_user = user_name THEN p_name
                       ELSE format('%s to %s', quote_ident(v_role), quote_ident(v_user)) END;
  is_member := pg_has_role(v_row.user_oid, v_row.role_oid, 'MEMBER');
  SELECT coalesce(array_agg(h.how ORDER BY h.how), '{}') INTO held_by FROM (
    SELECT 'granted by ' || coalesce(quote_ident(g.rolname), 'a dropped role') AS how
      FROM pg_auth_members a LEFT JOIN pg_roles g ON g.oid = a.grantor
     WHERE a.roleid = v_row.role_oid AND a.member = v_row.user_oid AND g.rolname IS DISTINCT FROM 'latchkey_owner'
    UNION
    SELECT 'through ' || quote_ident(r.rolname)
      FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.member
     WHERE a.roleid = v_row.role_oid AND a.member <> v_row.user_oid AND pg_has_role(v_row.user_oid, a.member, 'MEMBER')) h;
  -- The options of a membership are columns since PostgreSQL 16 only, hence to_jsonb.
  SELECT coalesce(array_agg(DISTINCT r.rolname::text ORDER BY r.rolname::text), '{}') INTO acted_as_by
    FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.member
   WHERE a.roleid = v_row.user_oid AND r.rolname NOT IN ('latchkey_owner', 'latchkey_killer', v_row.registered_by)
     AND (coalesce((to_jsonb(a) ->> 'inherit_option')::boolean, true)
          OR coalesce((to_jsonb(a) ->> 'set_option')::boolean, true));
  unsafe := latchkey.membership_is_unsafe(v_row.role_oid, v_row.user_oid);
  manageable := pg_has_role('latchkey_killer', v_row.user_oid, 'USAGE')
    AND CASE WHEN v_role = 'rds_superuser' THEN pg_has_role('latchkey_owner', v_row.role_oid, 'MEMBER')
             ELSE v_before_16 OR EXISTS (SELECT FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.member
                                          WHERE a.roleid = v_row.role_oid AND r.rolname = 'latchkey_owner' AND a.admin_option)
        END;
END $$;

-- Gives a registered membership until an end within the registered limit. The caller says which role and which user people
-- have approved: another registration under the same name gives nothing. Without ADMIN, so that it cannot be passed on, and
-- since PostgreSQL 16 without INHERIT, so that the user has the rights only after SET ROLE. A later end stays, as with open.
-- May wait for a lock: statement_timeout bounds it.
CREATE FUNCTION latchkey.open_membership(p_name text, p_role text, p_user text, p_until timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_row   latchkey.membership;
  v_state record;
  v_limit timestamptz;
  v_until timestamptz := p_until;
BEGIN
  -- From here on no other opening and no closing comes between.
  PERFORM FROM latchkey.membership m WHERE m.name::text = p_name FOR UPDATE;
  SELECT s.* INTO v_state FROM latchkey.membership(p_name) s;
  SELECT m.* INTO v_row FROM latchkey.membership m WHERE m.name::text = p_name;
  IF v_state.current_name IS DISTINCT FROM p_name OR v_state.role_name IS DISTINCT FROM p_role
     OR v_state.user_name IS DISTINCT FROM p_user THEN
    RAISE EXCEPTION 'this name stands for another role or user, or one was renamed, dropped or re-created'
      USING ERRCODE = 'LK001';
  END IF;
  IF v_state.unsafe OR cardinality(v_state.acted_as_by) > 0 THEN
    RAISE EXCEPTION 'the user could undo the window, or others can act as the user' USING ERRCODE = 'LK002';
  END IF;
  IF cardinality(v_state.held_by) > 0 THEN
    RAISE EXCEPTION 'the user is a member without Latchkey' USING ERRCODE = 'LK008';
  END IF;
  IF v_state.prepared > 0 THEN
    RAISE EXCEPTION 'role or user owns a prepared transaction' USING ERRCODE = '55006';
  END IF;
  v_limit := clock_timestamp() + v_row.max_window;
  IF p_until IS NULL OR NOT isfinite(p_until) OR p_until <= clock_timestamp() OR p_until > v_limit THEN
    RAISE EXCEPTION 'end of window is in the past or out of range' USING ERRCODE = '22023';
  END IF;
  IF v_row.open_until > clock_timestamp() THEN
    -- close takes the end away with the membership. An end without a membership: the database's owner revoked it by hand.
    IF NOT v_state.is_member THEN
      RAISE EXCEPTION 'somebody revoked the membership while it was open' USING ERRCODE = 'LK005',
        HINT = 'SELECT latchkey.close(name); lets it be opened again.';
    END IF;
    v_until := greatest(p_until, least(v_row.open_until, v_limit));
  END IF;
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE format('GRANT %I TO %I WITH ADMIN FALSE, INHERIT FALSE, SET TRUE', v_row.role_name, v_row.user_name);
  ELSE
    EXECUTE format('GRANT %I TO %I', v_row.role_name, v_row.user_name);
  END IF;
  UPDATE latchkey.membership m SET open_until = v_until, gone_since = 'infinity' WHERE m.name::text = p_name;
  -- It may have waited for a lock, past the end: that gives nothing.
  IF p_until <= clock_timestamp() THEN
    RAISE EXCEPTION 'window ended while it was being opened' USING ERRCODE = '22023';
  END IF;
  RETURN v_until;
END $$;

-- Revokes a registered membership, by OID, from every grantor from whom it can. Answers whether it was gone before the
-- call began: so the call that takes it answers false, and the next one, which sees that committed, true.
CREATE FUNCTION latchkey.close_membership(p_name text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_row        latchkey.membership;
  v_was_member boolean;
  v_grant      record;
BEGIN
  SELECT m.* INTO v_row FROM latchkey.membership m WHERE m.name::text = p_name FOR UPDATE;
  SELECT m.is_member INTO v_was_member FROM latchkey.membership(p_name) m;
  IF NOT v_was_member THEN
    UPDATE latchkey.membership m
       SET open_until = NULL, gone_since = CASE WHEN m.gone_since = 'infinity' THEN clock_timestamp() ELSE m.gone_since END
     WHERE m.name::text = p_name AND (m.open_until IS NOT NULL OR m.gone_since = 'infinity');
    RETURN true;
  END IF;
  FOR v_grant IN
    SELECT r.rolname AS role_name, u.rolname AS user_name, g.rolname AS grantor
      FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles u ON u.oid = a.member
      LEFT JOIN pg_roles g ON g.oid = a.grantor
     WHERE a.roleid = v_row.role_oid AND a.member = v_row.user_oid
  LOOP
    BEGIN
      -- Before PostgreSQL 16 there is one grant of a membership, whoever gave it.
      IF current_setting('server_version_num')::int < 160000 THEN
        EXECUTE format('REVOKE %I FROM %I CASCADE', v_grant.role_name, v_grant.user_name);
      ELSE
        EXECUTE format('REVOKE %I FROM %I GRANTED BY %I CASCADE', v_grant.role_name, v_grant.user_name, v_grant.grantor);
      END IF;
    EXCEPTION WHEN insufficient_privilege OR invalid_grantor THEN
      NULL;  -- somebody else's: the other grants go all the same, and state says who holds this one
    END;
  END LOOP;
  UPDATE latchkey.membership m SET open_until = NULL, gone_since = 'infinity' WHERE m.name::text = p_name;
  RETURN false;
END $$;

-- Called by the DBA, with the DBA's own rights: p_user may become a member of p_role for windows that are asked for under
-- p_name. Again with another limit is fine.
CREATE FUNCTION latchkey.register_membership(p_name text, p_role text, p_user text, p_max_window interval) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_before_16 boolean := current_setting('server_version_num')::int < 160000;
  v_role      record;
  v_user      record;
BEGIN
  SELECT r.* INTO v_role FROM pg_roles r WHERE r.rolname::text = p_role;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no role %', quote_ident(p_role) USING ERRCODE = 'LK004';
  END IF;
  SELECT r.* INTO v_user FROM pg_roles r WHERE r.rolname::text = p_user;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no role %', quote_ident(p_user) USING ERRCODE = 'LK004';
  END IF;
  IF p_name IS NULL OR octet_length(p_name) NOT BETWEEN 1 AND 63 OR p_name ~* '^(pg_|rds|latchkey_)'
     OR NOT latchkey.can_be_asked_for(p_name) THEN
    RAISE EXCEPTION 'give the membership a name of 1 to 63 bytes that does not begin with pg_, rds or latchkey_'
      USING ERRCODE = 'LK004', HINT = 'Without spaces around, control characters, and in Unicode normalization form C.';
  END IF;
  IF EXISTS (SELECT FROM latchkey.target t WHERE t.role_name::text = p_name) THEN
    RAISE EXCEPTION 'role % is registered under this name', quote_ident(p_name) USING ERRCODE = 'LK004';
  END IF;
  IF p_role ~ '^latchkey_' OR p_user ~ '^(pg_|rds|latchkey_)' OR v_user.rolname IN (current_user, session_user)
     OR v_role.oid = v_user.oid THEN
    RAISE EXCEPTION 'a membership of % in % concerns the system, Latchkey or you', quote_ident(p_user), quote_ident(p_role)
      USING ERRCODE = 'LK004', HINT = 'Register the everyday login of a person as the user.';
  END IF;
  IF latchkey.membership_is_unsafe(v_role.oid, v_user.oid) THEN
    RAISE EXCEPTION 'user % could undo a window as %', quote_ident(p_user), quote_ident(p_role) USING ERRCODE = 'LK004',
      HINT = 'Neither may be or become a superuser, before PostgreSQL 16 have CREATEROLE, nor the user have the ADMIN option.';
  END IF;
  IF has_database_privilege(v_role.oid, current_database(), 'CONNECT')
     OR has_database_privilege(v_user.oid, current_database(), 'CONNECT') THEN
    RAISE EXCEPTION 'role % or % may connect to this database', quote_ident(p_role), quote_ident(p_user)
      USING ERRCODE = 'LK004',
      HINT = 'Only you, latchkey_opener and latchkey_closer may; revoke CONNECT from them and from what they are members of.';
  END IF;
  IF p_max_window IS NULL OR p_max_window <= interval '0' OR p_max_window > interval '366 days' THEN
    RAISE EXCEPTION 'the longest window must be more than nothing and at most 366 days' USING ERRCODE = '22023';
  END IF;
  IF EXISTS (SELECT FROM latchkey.membership m WHERE m.name::text = p_name AND m.gone_since = 'infinity'
                AND (m.role_oid, m.user_oid) <> (v_role.oid, v_user.oid)) THEN
    RAISE EXCEPTION 'another membership is open under the name %', quote_ident(p_name) USING ERRCODE = 'LK004',
      HINT = format('End its window first, or close it yourself: SELECT latchkey.close(%L);', p_name);
  END IF;
  IF EXISTS (SELECT FROM latchkey.membership m WHERE m.name::text <> p_name
                AND (m.role_oid, m.user_oid) = (v_role.oid, v_user.oid)) THEN
    RAISE EXCEPTION 'this membership is registered under another name' USING ERRCODE = 'LK004',
      HINT = 'SELECT name, role_name, user_name FROM latchkey.membership;';
  END IF;

  IF p_role = 'rds_superuser' THEN
    -- RDS lets only its members grant it, ADMIN or not. That is for the DBA to decide, not for this function.
    IF NOT pg_has_role('latchkey_owner', v_role.oid, 'MEMBER') THEN
      RAISE EXCEPTION 'latchkey_owner is not in rds_superuser, and RDS lets only its members grant it' USING ERRCODE = 'LK004',
        HINT = 'GRANT rds_superuser TO latchkey_owner; makes its functions as strong as rds_superuser. '
               'Better register a login that is in rds_superuser: SELECT latchkey.register(role, max_window);';
    END IF;
  ELSIF NOT v_before_16 THEN
    -- ADMIN lets latchkey_owner give it; without INHERIT and SET it can never act as it.
    EXECUTE format('GRANT %I TO latchkey_owner WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', p_role);
  END IF;
  IF v_before_16 THEN
    EXECUTE format('GRANT %I TO latchkey_killer', p_user);
  ELSE
    EXECUTE format('GRANT %I TO latchkey_killer WITH ADMIN FALSE, INHERIT TRUE, SET FALSE', p_user);
  END IF;
  INSERT INTO latchkey.membership AS m
    (name, role_name, role_oid, user_name, user_oid, max_window, registered_by, registered_at)
  VALUES (p_name, v_role.rolname, v_role.oid, v_user.rolname, v_user.oid, p_max_window, current_user, now())
  ON CONFLICT (name) DO UPDATE
     SET role_name = excluded.role_name, role_oid = excluded.role_oid, user_name = excluded.user_name,
         user_oid = excluded.user_oid, max_window = excluded.max_window, registered_by = excluded.registered_by,
         registered_at = excluded.registered_at,
         gone_since = CASE WHEN m.user_oid = excluded.user_oid THEN m.gone_since ELSE excluded.gone_since END;
  RETURN format('%s is registered: %s may be a member of %s in windows up to %s; it %s', quote_ident(p_name),
                quote_ident(p_user), quote_ident(p_role), p_max_window,
                CASE WHEN pg_has_role(v_user.oid, v_role.oid, 'MEMBER') THEN 'is one now' ELSE 'is none now' END);
END $$;

-- Called by the DBA. The membership must be gone, so that no window is left without anybody who ends it.
CREATE FUNCTION latchkey.unregister_membership(p_name text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_row   latchkey.membership;
  v_grant record;
BEGIN
  SELECT m.* INTO v_row FROM latchkey.membership m WHERE m.name::text = p_name;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'membership is not registered' USING ERRCODE = '42704';
  END IF;
  IF v_row.gone_since = 'infinity' THEN
    RAISE EXCEPTION 'membership % is open', quote_ident(p_name) USING ERRCODE = 'LK004',
      HINT = format('End its window first, or close it yourself: SELECT latchkey.close(%L);', p_name);
  END IF;
  DELETE FROM latchkey.membership m WHERE m.name::text = p_name;
  -- What Latchkey needs for nothing else that is registered. rds_superuser was granted by hand.
  FOR v_grant IN
    SELECT r.rolname AS role_name, a.member::regrole::text AS member, g.rolname AS grantor
      FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles g ON g.oid = a.grantor
     WHERE r.rolname <> 'rds_superuser'
       AND ((a.roleid = v_row.role_oid AND a.member = 'latchkey_owner'::regrole)
            OR (a.roleid = v_row.user_oid AND a.member = 'latchkey_killer'::regrole))
       AND NOT EXISTS (SELECT FROM latchkey.membership m WHERE a.roleid IN (m.role_oid, m.user_oid))
       AND NOT EXISTS (SELECT FROM latchkey.target t WHERE t.role_oid = a.roleid)
  LOOP
    EXECUTE format('REVOKE %I FROM %s GRANTED BY %I', v_grant.role_name, v_grant.member, v_grant.grantor);
  END LOOP;
  RETURN format('%s is not registered any more', quote_ident(p_name));
END $$;

SET LOCAL ROLE latchkey_killer;
DROP FUNCTION IF EXISTS latchkey.sweep(text, boolean);
DROP FUNCTION IF EXISTS latchkey.is_open(text);
DROP FUNCTION IF EXISTS latchkey.sessions_of_membership(text, boolean);
DROP FUNCTION IF EXISTS latchkey.end_sessions(text);

-- Ends the sessions of a registered role that can be seen on this server, or of a registered membership's user while it is
-- a member, and answers which; works on a standby. It is the first statement of every connection that closes, because
-- sessions of a role with pg_signal_backend may be ending ours at the same time: hence one plain query, which a new session
-- has run in about a millisecond. The rest is the business of sweep.
CREATE FUNCTION latchkey.end_sessions(p_role text) RETURNS int[]
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(a.pid) FILTER (WHERE pg_terminate_backend(a.pid)), '{}')
    FROM pg_stat_get_activity(NULL) a
   WHERE a.usesysid IN (SELECT t.role_oid FROM latchkey.target t WHERE t.role_name::text = p_role
                        UNION ALL
                        SELECT m.user_oid FROM latchkey.membership m
                         WHERE m.name::text = p_role AND pg_has_role(m.user_oid, m.role_oid, 'MEMBER'))
$$;

-- Whether a registered role can log in, or a registered user is a member. What was dropped is not open.
CREATE FUNCTION latchkey.is_open(p_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT EXISTS (SELECT FROM latchkey.target t JOIN pg_roles r ON r.oid = t.role_oid
                  WHERE t.role_name::text = p_name AND r.rolcanlogin)
      OR EXISTS (SELECT FROM latchkey.membership m JOIN pg_roles r ON r.oid = m.role_oid JOIN pg_roles u ON u.oid = m.user_oid
                  WHERE m.name::text = p_name AND pg_has_role(u.oid, r.oid, 'MEMBER'))
$$;

-- The sessions of a registered membership's user that may act as its role: while the user is a member, all of them; then
-- those that began before that was seen to be over, because a SET ROLE outlives the membership. latchkey_owner could not
-- see when others' sessions began. A standby hears later than gone_since that it is over. So with p_closing, and in that
-- connection from then on, a standby counts what began before it was first looked at without the membership.
CREATE FUNCTION latchkey.sessions_of_membership(p_name text, p_closing boolean) RETURNS int[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_row    latchkey.membership;
  v_before timestamptz;
  v_key    text;
BEGIN
  SELECT m.* INTO v_row FROM latchkey.membership m WHERE m.name::text = p_name;
  v_before := v_row.gone_since;
  IF latchkey.is_open(p_name) THEN
    v_before := 'infinity';
  ELSIF pg_is_in_recovery() AND isfinite(v_row.gone_since) THEN
    v_key := format('latchkey.gone_%s_%s', v_row.role_oid, v_row.user_oid);
    IF p_closing AND coalesce(current_setting(v_key, true), '') = '' THEN
      PERFORM set_config(v_key, extract(epoch FROM clock_timestamp())::text, false);
    END IF;
    v_before := greatest(v_before, to_timestamp(nullif(current_setting(v_key, true), '')::float8));
  END IF;
  -- Of a dropped user's sessions it is not shown when they began.
  RETURN ARRAY(SELECT a.pid FROM pg_stat_activity a
                WHERE a.usesysid = v_row.user_oid AND a.pid <> pg_backend_pid() AND coalesce(a.backend_start <= v_before, true));
END $$;

-- Ends the sessions of a registered role on this server, those still starting too; works on a standby. Of a membership's user,
-- those that may act as the role.
-- The owner, latchkey_killer, has the rights of the registered roles: hence fixed statements only, and none of them dynamic.
-- For a backend that is not a registered role's, pg_terminate_backend() is refused to it: safe to try unknown ones.
CREATE FUNCTION latchkey.sweep(p_role text, p_force boolean DEFAULT false, OUT ended_pids int[], OUT refused int)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  v_force      boolean := coalesce(p_force, false);
  v_oid        oid;
  v_membership boolean;
  v_starting   boolean;
  v_pids       int[];
  v_pid        int;
BEGIN
  ended_pids := '{}';
  refused := 0;
  SELECT n.oid, n.membership INTO v_oid, v_membership
    FROM (SELECT t.role_name AS name, t.role_oid AS oid, false AS membership FROM latchkey.target t
          UNION ALL SELECT m.name, m.user_oid, true FROM latchkey.membership m) n
   WHERE n.name::text = p_role;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'role is not registered' USING ERRCODE = '42704';
  END IF;
  IF NOT v_force AND latchkey.is_open(p_role) THEN
    RAISE EXCEPTION 'role can log in, or user is a member' USING ERRCODE = 'LK003';
  END IF;

  -- First those that can be seen, then those still starting.
  FOREACH v_starting IN ARRAY ARRAY[false, true] LOOP
    PERFORM pg_stat_clear_snapshot();
    IF NOT v_starting AND v_membership THEN
      v_pids := latchkey.sessions_of_membership(p_role, v_force);
    ELSIF NOT v_starting THEN
      v_pids := ARRAY(SELECT a.pid FROM pg_stat_activity a WHERE a.usesysid = v_oid AND a.pid <> pg_backend_pid());
    ELSE
      -- Past the login check, but not yet shown with a role: no row up to PostgreSQL 17, state "starting" since 18.
      v_pids := ARRAY(SELECT l.pid FROM pg_locks l WHERE l.locktype = 'virtualxid' AND l.pid <> pg_backend_pid()
           AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.usesysid IS NOT NULL));
      -- If a refusal cannot tell us whose backend it is, touch only those that are still starting a second later: an
      -- honest start takes milliseconds. So it is when the role may signal everybody, or when another registered role
      -- can log in, as the users of memberships always can.
      IF cardinality(v_pids) > 0
         AND (pg_has_role(current_user, 'pg_signal_backend', 'USAGE')
              OR EXISTS (SELECT FROM latchkey.membership)
              OR EXISTS (SELECT FROM latchkey.target t JOIN pg_roles r ON r.oid = t.role_oid
                          WHERE t.role_oid <> v_oid AND r.rolcanlogin)) THEN
        PERFORM pg_sleep(1), pg_stat_clear_snapshot();
        v_pids := ARRAY(SELECT l.pid FROM pg_locks l WHERE l.locktype = 'virtualxid' AND l.pid = ANY (v_pids)
             AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.usesysid IS NOT NULL));
        IF NOT v_force AND latchkey.is_open(p_role) THEN
          RAISE EXCEPTION 'role can log in, or user is a member, by now' USING ERRCODE = 'LK003';
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
REVOKE ALL ON FUNCTION latchkey.sweep(text, boolean), latchkey.end_sessions(text), latchkey.is_open(text),
  latchkey.sessions_of_membership(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION latchkey.sweep(text, boolean), latchkey.end_sessions(text) TO latchkey_opener, latchkey_closer;
GRANT EXECUTE ON FUNCTION latchkey.sessions_of_membership(text, boolean) TO latchkey_owner;

SET LOCAL ROLE latchkey_owner;
REVOKE CREATE ON SCHEMA latchkey FROM latchkey_killer;
REVOKE ALL ON FUNCTION latchkey.registered_oid(text), latchkey.open(text, timestamptz), latchkey.close(text),
  latchkey.open(text, timestamptz, text, text), latchkey.window_password(text),
  latchkey.extend(text, timestamptz), latchkey.narrow(text, timestamptz),
  latchkey.state(text), latchkey.registered(), latchkey.openings_by_hand(text),
  latchkey.open_by_hand(text, timestamptz, text), latchkey.register(text, interval, int), latchkey.unregister(text),
  latchkey.is_membership(text), latchkey.can_be_asked_for(text), latchkey.membership_is_unsafe(oid, oid),
  latchkey.membership(text),
  latchkey.open_membership(text, text, text, timestamptz), latchkey.close_membership(text),
  latchkey.register_membership(text, text, text, interval), latchkey.unregister_membership(text)
  FROM PUBLIC;
GRANT EXECUTE ON FUNCTION latchkey.close(text), latchkey.narrow(text, timestamptz), latchkey.state(text),
  latchkey.registered(), latchkey.openings_by_hand(text), latchkey.window_password(text),
  latchkey.membership(text)
  TO latchkey_opener, latchkey_closer;
GRANT EXECUTE ON FUNCTION latchkey.open(text, timestamptz), latchkey.open(text, timestamptz, text, text),
  latchkey.extend(text, timestamptz), latchkey.open_membership(text, text, text, timestamptz) TO latchkey_opener;

-- The DBA registers, looks and closes by hand; the borrowed rights are given back.
DO $$
DECLARE
  v_dba  text := current_setting('latchkey.dba');
  v_role text;
BEGIN
  SET LOCAL ROLE latchkey_owner;
  EXECUTE format('GRANT USAGE ON SCHEMA latchkey TO %I', v_dba);
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE latchkey.target, latchkey.membership TO %I', v_dba);
  EXECUTE format('GRANT EXECUTE ON FUNCTION latchkey.register(text, interval, int), latchkey.unregister(text), '
                 'latchkey.close(text), latchkey.state(text), latchkey.registered(), '
                 'latchkey.openings_by_hand(text), latchkey.window_password(text), '
                 'latchkey.open_by_hand(text, timestamptz, text), latchkey.is_membership(text), '
                 'latchkey.can_be_asked_for(text), latchkey.membership_is_unsafe(oid, oid), latchkey.membership(text), '
                 'latchkey.register_membership(text, text, text, interval), latchkey.unregister_membership(text) TO %I', v_dba);
  SET LOCAL ROLE latchkey_killer;
  EXECUTE format('GRANT EXECUTE ON FUNCTION latchkey.sweep(text, boolean), latchkey.end_sessions(text) TO %I', v_dba);
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
