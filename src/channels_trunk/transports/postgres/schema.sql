-- Version 2. {p} is the schema and what the names begin with. Everything but the version is UNLOGGED: it is written without
-- the write-ahead log, and empty after a crash of the server, which the missing row in {p}state tells.

CREATE TABLE IF NOT EXISTS {p}meta (name text PRIMARY KEY, value bigint NOT NULL);

-- From version 1. Its processes find their functions missing, open anew, and say that they are too old.
DO $$ BEGIN
    IF EXISTS (SELECT 1 FROM {p}meta WHERE name = 'schema_version' AND value < 2) THEN
        DROP FUNCTION {p}publish, {p}rotate;
        ALTER TABLE {p}state DROP COLUMN generation, ADD COLUMN with_members boolean NOT NULL DEFAULT true,
            ADD COLUMN begun boolean NOT NULL DEFAULT false;
    END IF;
END $$;

-- One row. `epoch` is new with every crash. Of the two logs `active` is appended to, and the other is emptied, at once and
-- whatever transactions are open elsewhere, when every node has read it; `base` is the newest id outside the active one.
-- No row of {p}queue but those given back has an id up to `taken`: what is dead there cannot be vacuumed while a
-- transaction is open elsewhere, and would be in the way of each count and claim. Unless `with_members`, {p}members is empty:
-- then a batch costs what it did without it. Whoever adds a member writes true, whatever is there. `begun` says that there
-- is something in the active log: where there is nothing, somebody else has emptied it.
CREATE UNLOGGED TABLE IF NOT EXISTS {p}state (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    epoch bigint NOT NULL,
    active smallint NOT NULL DEFAULT 0,
    base bigint NOT NULL DEFAULT 0,
    taken bigint NOT NULL DEFAULT 0,
    with_members boolean NOT NULL DEFAULT true,
    begun boolean NOT NULL DEFAULT false,
    emptied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The log. A row is a batch of envelopes of one node. Ids have no gaps, and are seen in their order. `batch` is the node's
-- own number for it, and `refused` what was not taken: so a node whose connection was cut finds out what came of a batch.
CREATE UNLOGGED TABLE IF NOT EXISTS {p}log_0 (
    id bigint PRIMARY KEY,
    prefix text NOT NULL,
    origin text NOT NULL,
    expires_at float8 NOT NULL,
    frame bytea NOT NULL,
    batch bigint NOT NULL,
    refused bigint[]
);
CREATE UNLOGGED TABLE IF NOT EXISTS {p}log_1 (
    id bigint PRIMARY KEY,
    prefix text NOT NULL,
    origin text NOT NULL,
    expires_at float8 NOT NULL,
    frame bytea NOT NULL,
    batch bigint NOT NULL,
    refused bigint[]
);
-- Frames are small, or encrypted, or large because of what is packed already: compressing them costs more than it saves.
ALTER TABLE {p}log_0 ALTER COLUMN frame SET STORAGE EXTERNAL;
ALTER TABLE {p}log_1 ALTER COLUMN frame SET STORAGE EXTERNAL;

-- Messages of normal channels. What is given back has a negative id: it is in front of all others.
CREATE UNLOGGED TABLE IF NOT EXISTS {p}queue (
    id bigint NOT NULL,
    prefix text NOT NULL,
    channel text NOT NULL,
    expires_at float8 NOT NULL,
    frame bytea NOT NULL,
    PRIMARY KEY (prefix, channel, id)
);
ALTER TABLE {p}queue ALTER COLUMN frame SET STORAGE EXTERNAL;
-- For the oldest of all channels. Not on the bare id: where the server knows nothing of what is in the table, it would take
-- this one for the messages of one channel, and look at those of all others.
CREATE INDEX IF NOT EXISTS {i}queue_oldest ON {p}queue ((id + 0));
CREATE SEQUENCE IF NOT EXISTS {p}queue_ids;

-- Normal channels that are members of groups. (Process-specific members live in their owner's memory.)
CREATE UNLOGGED TABLE IF NOT EXISTS {p}members (
    prefix text NOT NULL,
    group_name text NOT NULL,
    channel text NOT NULL,
    expires_at float8 NOT NULL,
    PRIMARY KEY (prefix, group_name, channel)
);

-- The nodes: how far they have read, the key of the advisory lock that their connections hold, and the session that may
-- append for them: what is left of one before must not append behind the back of the next.
CREATE UNLOGGED TABLE IF NOT EXISTS {p}nodes (
    node text PRIMARY KEY,
    prefix text NOT NULL,
    lock_key integer NOT NULL,
    session bigint NOT NULL,
    position bigint NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Append a batch: a row of the log if there is a frame for it, and rows of normal channels as far as there is room.
-- Appends are serialised by a lock that lasts as long as the transaction, so that ids are seen in their order: a row that
-- took its id first and is committed last would be behind the readers' backs. Notifications have the same order. Returns the
-- row's id, and behind it the places, from 0, of what was refused: one value is a quicker answer than a row.
--
-- Which normal channels are members of the batch's groups is decided here and now, by {p}members. A process cannot send a
-- message for each of them without knowing them, and what it knows may be old. So it sends along what it believes: rows
-- with the name of their group in p_members ('' for what was sent to the channel itself). What is a member no more is left
-- out, and its place returned as -1 - place. Where a member has no row nothing is done, and NULL returned: the process has to
-- look, and to come again. Each time that happens there is a name it did not know, so it comes to an end.
CREATE OR REPLACE FUNCTION {p}publish(
    p_prefix text, p_origin text, p_session bigint, p_batch bigint,
    p_expires_at float8, p_frame bytea, p_notify text[], p_payload text, p_groups text[],
    p_channels text[] DEFAULT NULL, p_expiries float8[] DEFAULT NULL, p_frames bytea[] DEFAULT NULL,
    p_capacities bigint[] DEFAULT NULL, p_members text[] DEFAULT NULL, p_hints text[] DEFAULT NULL
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    row_id bigint;
    now_is float8 := date_part('epoch', clock_timestamp());
    gone bigint[];
    left_out bigint[];
    now_active smallint;
    now_base bigint;
    now_taken bigint;
    has_members boolean;
    is_writer boolean;
    given_back boolean;
    has_room boolean;
    bell text;
BEGIN
    -- In as few queries as can be, as each costs as much as what it finds: an expression alone is no query.
    IF pg_advisory_xact_lock({lock_class}, {lock_key}) IS NULL THEN NULL; END IF;
    SELECT s.active, s.base, s.taken, s.with_members,
            EXISTS (SELECT 1 FROM {p}nodes n WHERE n.node = p_origin AND n.session = p_session),
            p_channels IS NOT NULL AND EXISTS (SELECT 1 FROM {p}queue q WHERE q.id + 0 < 0)
        INTO now_active, now_base, now_taken, has_members, is_writer, given_back
        FROM {p}state s;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the tables were emptied' USING ERRCODE = 'TK001';
    END IF;
    IF NOT is_writer THEN
        RAISE EXCEPTION 'another session appends for this node' USING ERRCODE = 'TK002';
    END IF;
    IF has_members AND p_groups IS NOT NULL THEN
        -- Nearly all groups have none, which this finds out for less than what follows. A subquery that is one value is not
        -- made a join, for which all members of all groups might be read.
        IF EXISTS (SELECT 1 FROM unnest(p_groups) g(name) WHERE (
            SELECT true FROM {p}members m WHERE m.prefix = p_prefix AND m.group_name = g.name LIMIT 1
        )) THEN
            IF EXISTS (
                SELECT 1 FROM unnest(p_groups) g(name), LATERAL (
                    SELECT m.channel FROM {p}members m
                    WHERE m.prefix = p_prefix AND m.group_name = g.name AND m.expires_at > now_is OFFSET 0
                ) m WHERE (g.name, m.channel) NOT IN (
                    -- None of them NULL, which would be taken for any: p_members is, where nothing is sent along.
                    SELECT k.name, k.channel FROM unnest(p_members, p_channels) k(name, channel) WHERE k.name <> ''
                )
            ) THEN
                RETURN NULL;
            END IF;
        END IF;
    END IF;
    IF p_members IS NOT NULL THEN
        SELECT array_agg(w.i) INTO gone
            FROM unnest(p_members, p_channels) WITH ORDINALITY AS w(group_name, channel, i)
            WHERE w.group_name <> '' AND (
                SELECT true FROM {p}members m WHERE m.prefix = p_prefix AND m.group_name = w.group_name
                    AND m.channel = w.channel AND m.expires_at > now_is
            ) IS NULL;
    END IF;
    IF p_channels IS NOT NULL THEN
        -- To count what waits takes long where the capacity is large. So first a bound of it: how many ids were given out
        -- that may be there, in all channels. Where that leaves no room for the whole batch, that of each channel, by its
        -- lowest and highest. And only where that leaves none, what has not expired is counted.
        IF gone IS NOT NULL THEN
            has_room := false;
        ELSIF NOT given_back AND p_capacities[1] = ALL (p_capacities) AND
                p_capacities[1] >= cardinality(p_channels) + pg_sequence_last_value('{p}queue_ids') - now_taken THEN
            has_room := true;
        ELSE
            has_room := NOT EXISTS (
                SELECT 1 FROM (SELECT DISTINCT * FROM unnest(p_channels, p_capacities)) w(channel, capacity)
                WHERE w.capacity < cardinality(p_channels) + coalesce(
                    (SELECT max(q.id) FROM {p}queue q
                        WHERE q.prefix = p_prefix AND q.channel = w.channel AND q.id > now_taken) -
                    (SELECT min(q.id) FROM {p}queue q
                        WHERE q.prefix = p_prefix AND q.channel = w.channel AND q.id > now_taken) + 1, 0
                ) + (SELECT count(*) FROM {p}queue q WHERE q.prefix = p_prefix AND q.channel = w.channel AND q.id < 0)
            );
        END IF;
        IF has_room THEN
            INSERT INTO {p}queue
            SELECT nextval('{p}queue_ids'), p_prefix, w.channel, w.expires_at, w.frame
            FROM unnest(p_channels, p_expiries, p_frames) w(channel, expires_at, frame);
        ELSE
            WITH wanted AS (
                SELECT w.*, row_number() OVER (PARTITION BY w.channel ORDER BY w.i) AS place
                FROM unnest(p_channels, p_expiries, p_frames, p_capacities) WITH ORDINALITY
                    AS w(channel, expires_at, frame, capacity, i)
                WHERE gone IS NULL OR w.i <> ALL (gone)
            ), depths AS (
                SELECT d.channel, (
                    SELECT count(*) FROM (
                        SELECT 1 FROM {p}queue q
                        WHERE q.prefix = p_prefix AND q.channel = d.channel AND q.expires_at > now_is AND q.id > now_taken
                        LIMIT d.capacity
                    ) there
                ) + (
                    SELECT count(*) FROM (
                        SELECT 1 FROM {p}queue q
                        WHERE q.prefix = p_prefix AND q.channel = d.channel AND q.expires_at > now_is AND q.id < 0
                        LIMIT d.capacity
                    ) back
                ) AS depth FROM (SELECT DISTINCT channel, capacity FROM wanted WHERE capacity IS NOT NULL) d
            ), sorted AS (
                SELECT wanted.*, coalesce(depth + place <= capacity, true) AS fits
                FROM wanted LEFT JOIN depths USING (channel)
            ), stored AS (
                INSERT INTO {p}queue
                SELECT nextval('{p}queue_ids'), p_prefix, f.channel, f.expires_at, f.frame
                FROM (SELECT * FROM sorted WHERE fits ORDER BY i) f
            )
            SELECT array_agg(i - 1 ORDER BY i) INTO left_out FROM sorted WHERE NOT fits;
            left_out := left_out || (SELECT array_agg(-i) FROM unnest(gone) i);
        END IF;
        FOREACH bell IN ARRAY p_hints LOOP
            -- Whoever needs hints holds this, shared. If nobody does, nobody comes to do so before this is committed.
            IF NOT pg_try_advisory_xact_lock({hint_class}, hashtext(bell)) THEN
                PERFORM pg_notify(bell, 'queue');
            END IF;
        END LOOP;
    END IF;
    IF now_active = 0 THEN
        INSERT INTO {p}log_0
            SELECT greatest(max(l.id), now_base) + 1, p_prefix, p_origin, p_expires_at, p_frame, p_batch, left_out
            FROM {p}log_0 l RETURNING id INTO row_id;
    ELSE
        INSERT INTO {p}log_1
            SELECT greatest(max(l.id), now_base) + 1, p_prefix, p_origin, p_expires_at, p_frame, p_batch, left_out
            FROM {p}log_1 l RETURNING id INTO row_id;
    END IF;
    IF row_id = now_base + 1 THEN
        UPDATE {p}state SET begun = true WHERE NOT begun;
        IF NOT FOUND THEN
            -- An operator has emptied the log. Ids that began anew would lie below what others have read, and they would
            -- miss the rows and not know. So they go on far above, which tells everybody that something is lost.
            UPDATE {p}state SET base = base + {leap};
            row_id := row_id + {leap};
            UPDATE {p}log_0 SET id = row_id WHERE now_active = 0 AND id = now_base + 1;
            UPDATE {p}log_1 SET id = row_id WHERE now_active = 1 AND id = now_base + 1;
        END IF;
    END IF;
    FOREACH bell IN ARRAY p_notify LOOP
        PERFORM pg_notify(bell, row_id || ' ' || p_origin || ' ' || p_payload);
    END LOOP;
    RETURN row_id || left_out;
END $$;

-- Switch to the other log if it can be emptied. Returns 'small', 'unread', 'locked' or 'emptied'.
CREATE OR REPLACE FUNCTION {p}rotate(p_enough bigint, p_limit bigint, p_silent_after float8)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    s record;
    -- Of the server's clock, here as everywhere: a process whose own is wrong must not remove what is another's.
    now_is float8 := date_part('epoch', clock_timestamp());
    old_newest bigint;
    active_newest bigint;
    read_by_all bigint;
    still_needed boolean;
    active_size bigint;
    old_size bigint;
    now_taken bigint;
BEGIN
    PERFORM pg_advisory_xact_lock({lock_class}, {lock_key});
    SELECT * INTO s FROM {p}state;
    -- Nobody appends meanwhile, and what a claim has taken and not committed is still seen.
    SELECT coalesce(min(id + 0) - 1, pg_sequence_last_value('{p}queue_ids'), 0) INTO now_taken
        FROM {p}queue WHERE id + 0 > s.taken;
    IF now_taken > s.taken + 1000 THEN
        UPDATE {p}state SET taken = now_taken;
    END IF;
    IF s.with_members AND NOT EXISTS (SELECT 1 FROM {p}members) THEN
        -- Whoever is about to add one has written to this row, or waits until this is over: so it is looked again.
        PERFORM 1 FROM {p}state FOR UPDATE;
        IF NOT EXISTS (SELECT 1 FROM {p}members) THEN
            UPDATE {p}state SET with_members = false;
        END IF;
    END IF;
    IF s.active = 0 THEN
        SELECT max(id) INTO active_newest FROM {p}log_0;
        SELECT max(id), max(expires_at) > now_is INTO old_newest, still_needed FROM {p}log_1;
        active_size := pg_total_relation_size('{p}log_0');
        old_size := pg_total_relation_size('{p}log_1');
    ELSE
        SELECT max(id) INTO active_newest FROM {p}log_1;
        SELECT max(id), max(expires_at) > now_is INTO old_newest, still_needed FROM {p}log_0;
        active_size := pg_total_relation_size('{p}log_1');
        old_size := pg_total_relation_size('{p}log_0');
    END IF;
    IF active_newest IS NULL OR (active_size < p_enough AND s.emptied_at > clock_timestamp() - interval '60 s') THEN
        RETURN 'small';
    END IF;
    SELECT min(position) INTO read_by_all FROM {p}nodes n
        WHERE seen_at > clock_timestamp() - p_silent_after * interval '1 s';
    IF old_newest > read_by_all AND still_needed AND active_size + old_size < p_limit THEN
        RETURN 'unread';
    END IF;
    BEGIN
        -- Never waits, because whoever comes behind a lock that is waited for would have to wait, too.
        IF s.active = 0 THEN
            LOCK TABLE {p}log_1 IN ACCESS EXCLUSIVE MODE NOWAIT;
            TRUNCATE {p}log_1;
        ELSE
            LOCK TABLE {p}log_0 IN ACCESS EXCLUSIVE MODE NOWAIT;
            TRUNCATE {p}log_0;
        END IF;
    EXCEPTION WHEN lock_not_available THEN
        RETURN 'locked';
    END;
    UPDATE {p}state SET active = 1 - s.active, base = active_newest, begun = false, emptied_at = clock_timestamp();
    RETURN 'emptied';
END $$;
