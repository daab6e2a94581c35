-- Facts about the whole cluster that decide about access, each a row of text whose first word is its kind.
-- Read in the database latchkey, by a login without privileges, on PostgreSQL 13 to 18, with search_path = pg_catalog.
-- Only catalogues and built-in functions are named, and nothing waits for a lock. $1 is the largest number of rows.
--
-- What cannot be seen: passwords (pg_authid), the options of user mappings, the connections of subscriptions.
-- Columns that not every version has are read through to_jsonb.
SELECT fact FROM (
  -- LOGIN and its limits are left out for registered roles, because windows change them; reconcile watches them.
  SELECT concat_ws(' ', 'role', quote_ident(r.rolname), '(oid ' || r.oid || ')',
           CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,
           CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, CASE WHEN r.rolreplication THEN 'REPLICATION' END,
           CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END, CASE WHEN NOT r.rolinherit THEN 'NOINHERIT' END,
           CASE WHEN g.role_name IS NOT NULL THEN 'registered'
                ELSE concat_ws(' ', CASE WHEN r.rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
                       'CONNECTION LIMIT ' || nullif(r.rolconnlimit, -1),
                       'VALID UNTIL ' || CASE WHEN isfinite(r.rolvaliduntil)
                         THEN to_char(r.rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
                         ELSE r.rolvaliduntil::text END)
           END) AS fact
    FROM pg_roles r LEFT JOIN latchkey.registered() AS g(role_name) ON g.role_name = r.rolname::text
  UNION ALL
  -- What windows give is left out here too: latchkey_owner grants registered memberships only, and without ADMIN.
  SELECT concat_ws(' ', 'membership', m.member::regrole, 'in', m.roleid::regrole, 'by', m.grantor::regrole,
           to_jsonb(m) - 'oid' - 'roleid' - 'member' - 'grantor')
    FROM pg_auth_members m WHERE m.grantor::regrole::text <> 'latchkey_owner' OR m.admin_option
  UNION ALL
  -- Settings of one's own, which have a dot in their names, may hold secrets: of them only a digest.
  SELECT concat_ws(' ', 'setting of', CASE s.setrole WHEN 0 THEN 'every role' ELSE s.setrole::regrole::text END,
           'in', coalesce(quote_ident(d.datname), 'every database'),
           CASE WHEN split_part(v.value, '=', 1) LIKE '%.%'
                THEN split_part(v.value, '=', 1) || ' (md5 ' || md5(v.value) || ')' ELSE v.value END)
    FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS v(value)
  UNION ALL
  SELECT concat_ws(' ', 'database', quote_ident(d.datname), 'owner', d.datdba::regrole,
           CASE WHEN NOT d.datallowconn THEN 'not connectable' END,
           'CONNECTION LIMIT ' || nullif(d.datconnlimit, -1), 'acl ' || d.datacl::text)
    FROM pg_database d
  UNION ALL
  -- Shown here too, because such a database is not entered (see Connection::databases).
  SELECT concat_ws(' ', 'event-trigger at login in', quote_ident(d.datname))
    FROM pg_database d WHERE (to_jsonb(d) ->> 'dathasloginevt')::boolean
  UNION ALL
  SELECT concat_ws(' ', 'prepared-transaction', quote_literal(x.gid), 'owner', quote_ident(x.owner),
           'in', quote_ident(x.database))
    FROM pg_prepared_xacts x
  UNION ALL
  SELECT concat_ws(' ', 'slot', quote_ident(s.slot_name), s.slot_type, 'in ' || quote_ident(s.database))
    FROM pg_replication_slots s WHERE NOT s.temporary
  UNION ALL
  SELECT concat_ws(' ', 'subscription', quote_ident(s.subname), 'owner', s.subowner::regrole,
           'in', quote_ident(d.datname), CASE WHEN NOT s.subenabled THEN 'disabled' END)
    FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
) AS facts
LIMIT $1
