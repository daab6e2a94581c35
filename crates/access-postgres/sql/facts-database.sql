-- Facts about one database that decide about access, each a row of text whose first word is its kind; "manager" for
-- everything of Latchkey itself. The same rules as for facts-cluster.sql. Whoever owns the database may be hostile.
-- OIDs below 16384 belong to what initdb made (FirstNormalObjectId in src/include/access/transam.h).
WITH space AS (
  SELECT n.oid, n.nspname, n.nspowner, n.nspacl,
         CASE WHEN n.nspname = 'latchkey' AND current_database() = 'latchkey' THEN 'manager' END AS manager
    FROM pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp)'
), relation AS (
  SELECT c.*, s.manager FROM pg_class c JOIN space s ON s.oid = c.relnamespace WHERE c.oid >= 16384
)
SELECT fact FROM (
  SELECT concat_ws(' ', s.manager, 'schema', quote_ident(s.nspname), 'owner', s.nspowner::regrole, 'acl ' || s.nspacl::text)
           AS fact
    FROM space s
  UNION ALL
  -- The body of a function in standard SQL is not in prosrc (since PostgreSQL 14).
  SELECT concat_ws(' ', s.manager, CASE WHEN p.prosecdef THEN 'definer-function' ELSE 'function' END, p.oid::regprocedure,
           'owner', p.proowner::regrole,
           'body', md5(concat_ws('|', l.lanname, p.prosrc, p.probin, p.proconfig::text, to_jsonb(p) ->> 'prosqlbody')),
           CASE WHEN p.prosecdef OR s.manager IS NOT NULL THEN 'acl ' || p.proacl::text END)
    FROM pg_proc p JOIN space s ON s.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
   WHERE p.oid >= 16384 OR p.prosecdef
  UNION ALL
  SELECT concat_ws(' ', 'event-trigger', quote_ident(e.evtname), 'at', e.evtevent, e.evttags::text,
           'owner', e.evtowner::regrole, 'calls', e.evtfoid::regprocedure, 'enabled', e.evtenabled)
    FROM pg_event_trigger e
  UNION ALL
  SELECT concat_ws(' ', r.manager, 'trigger', quote_ident(t.tgname), 'on', t.tgrelid::regclass,
           'calls', t.tgfoid::regprocedure, 'enabled', t.tgenabled,
           'body', md5(concat_ws('|', t.tgtype, t.tgargs, t.tgqual::text)))
    FROM pg_trigger t JOIN relation r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
  UNION ALL
  -- Views are rules too.
  SELECT concat_ws(' ', r.manager, 'rule', quote_ident(w.rulename), 'on', w.ev_class::regclass, 'enabled', w.ev_enabled,
           'body', md5(concat_ws('|', w.ev_type, w.is_instead, w.ev_qual::text, w.ev_action::text)))
    FROM pg_rewrite w JOIN relation r ON r.oid = w.ev_class
  UNION ALL
  SELECT concat_ws(' ', r.manager, 'policy', quote_ident(p.polname), 'on', p.polrelid::regclass,
           'for', p.polcmd, 'to', p.polroles::regrole[]::text, CASE WHEN p.polpermissive THEN 'permissive' END,
           'body', md5(concat_ws('|', p.polqual::text, p.polwithcheck::text)))
    FROM pg_policy p JOIN relation r ON r.oid = p.polrelid
  UNION ALL
  SELECT concat_ws(' ', r.manager, 'relation', r.oid::regclass, 'of kind', r.relkind, 'owner', r.relowner::regrole,
           CASE WHEN r.relrowsecurity THEN 'row security' END, CASE WHEN r.relforcerowsecurity THEN 'forced' END,
           'acl ' || r.relacl::text)
    FROM relation r WHERE r.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL
  SELECT concat_ws(' ', r.manager, 'column', a.attrelid::regclass || '.' || quote_ident(a.attname), 'acl', a.attacl::text)
    FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid WHERE a.attacl IS NOT NULL
  UNION ALL
  SELECT concat_ws(' ', 'default-privileges of', d.defaclrole::regrole,
           CASE d.defaclnamespace WHEN 0 THEN 'everywhere' ELSE 'in ' || d.defaclnamespace::regnamespace END,
           'for', d.defaclobjtype, d.defaclacl::text)
    FROM pg_default_acl d
  UNION ALL
  SELECT concat_ws(' ', 'extension', quote_ident(e.extname), e.extversion, 'owner', e.extowner::regrole)
    FROM pg_extension e
  UNION ALL
  SELECT concat_ws(' ', 'server', quote_ident(s.srvname), 'owner', s.srvowner::regrole, 'acl ' || s.srvacl::text,
           'options', md5(s.srvoptions::text))
    FROM pg_foreign_server s
  UNION ALL
  SELECT concat_ws(' ', 'user-mapping of', quote_ident(u.usename), 'on', quote_ident(u.srvname))
    FROM pg_user_mappings u
) AS facts
LIMIT $1
