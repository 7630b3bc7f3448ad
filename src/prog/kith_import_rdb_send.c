/* The keys of an RDB as commands: SET; HSET, ZADD and VADD in batches behind a DEL, so that an import that is repeated
 * ends as one that was not; PEXPIREAT last. */
#include "base/num.h"
#include "base/os.h"
#include "prog/kith_import_rdb.h"

#include <stdio.h>

enum {
    BATCH_ELEMENTS = 256, /* fields or members a command */
    BATCH_BYTES = 1 << 20,
    M_LEAST = 4, /* that VADD takes */
    M_MOST = 4096,
};

static const char *type_of(enum kith_rdb_kind kind)
{
    static const char *const names[] = {[KITH_RDB_STRING] = "string",
                                        [KITH_RDB_HASH] = "hash",
                                        [KITH_RDB_ZSET] = "zset",
                                        [KITH_RDB_VECTORS] = "vectorset",
                                        [KITH_RDB_OTHER] = "other"};
    return names[kind];
}

static int out_of_memory(struct kith_rdb_job *job)
{
    return kith_error_set(&job->error, KITH_ENOMEM, "out of memory");
}

/* ---- replies ---- */

/* Errors that are not about one key: the next would get the same. */
static bool is_hopeless(struct kith_slice text)
{
    static const char *const codes[] = {"ERR", "WRONGTYPE"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        size_t length = strlen(codes[i]);
        if (text.length > length && memcmp(text.data, codes[i], length) == 0 && text.data[length] == ' ')
            return false;
    }
    return true;
}

static int take_reply(struct kith_rdb_job *job, struct kith_rdb_sent *sent, const struct kith_value *reply)
{
    if (reply->type == KITH_VALUE_ERROR) {
        if (is_hopeless(reply->text))
            return kith_error_set(&job->error, KITH_EPERM, "key %llu: the server says: %s",
                                  (unsigned long long)sent->number, reply->text.data);
        if (job->refused_number != sent->number) {
            char why[300];
            snprintf(why, sizeof why, "the server says: %.*s", (int)reply->text.length, reply->text.data);
            kith_rdb_job_left_out(job, sent->db, type_of(sent->kind), kith_buf_slice(&sent->key), why, false);
        }
        job->refused_number = sent->number;
    }
    if (sent->is_last && job->refused_number != sent->number) {
        kith_tally_add(&job->taken, type_of(sent->kind));
        job->elements += sent->elements;
    }
    return KITH_OK;
}

int kith_rdb_job_settle(struct kith_rdb_job *job, size_t pending_max)
{
    while (kith_client_pending(job->client) > pending_max) {
        struct kith_value reply;
        int status = kith_client_reply(job->client, &reply, &job->error);
        if (status)
            return status;
        if (reply.type != KITH_VALUE_PUSH)
            status = take_reply(job, &job->sent[job->answered++ % job->pipeline], &reply);
        kith_value_fini(&reply);
        if (status)
            return status;
    }
    return KITH_OK;
}

/* ---- commands ---- */

static void add_argument(struct kith_rdb_job *job, struct kith_slice argument)
{
    kith_request_put_argument(&job->arguments, argument);
    job->argc++;
}

static void add_word(struct kith_rdb_job *job, const char *word)
{
    add_argument(job, kith_slice(word, strlen(word)));
}

static void begin_command(struct kith_rdb_job *job, const char *command)
{
    kith_buf_clear(&job->arguments);
    job->argc = job->batched = 0;
    add_word(job, command);
    add_argument(job, kith_buf_slice(&job->key));
}

/* Sends the command that add_argument made. */
static int send_command(struct kith_rdb_job *job, const struct kith_rdb_key *key, uint64_t elements,
                        bool is_last)
{
    struct kith_buf *out = kith_client_get_out(job->client);
    struct kith_rdb_sent *sent = &job->sent[job->put % job->pipeline];
    kith_buf_clear(&sent->key);
    kith_buf_append(&sent->key, key->name.data, key->name.length);
    if (job->arguments.failed || sent->key.failed)
        return out_of_memory(job);
    kith_request_put_count(out, job->argc);
    kith_buf_append(out, job->arguments.data, job->arguments.length);
    if (out->failed)
        return out_of_memory(job);
    kith_client_queued(job->client);
    sent->number = job->number;
    sent->db = key->db;
    sent->kind = key->kind;
    sent->elements = elements;
    sent->is_last = is_last;
    job->put++;
    job->batched = 0;
    job->is_begun = true;
    /* A full window is halved, so that both sides always have something to do; large values go at once. */
    enum { OUT_BYTES = 4 << 20 };
    if (kith_client_pending(job->client) >= job->pipeline)
        return kith_rdb_job_settle(job, job->pipeline / 2);
    return out->length > OUT_BYTES ? kith_client_flush(job->client, &job->error) : KITH_OK;
}

/* Later commands go to the key's database. One that the server does not have leaves the keys of it out. */
static int choose_db(struct kith_rdb_job *job, uint32_t db)
{
    char digits[KITH_NUM_INT64_CHARS];
    struct kith_value reply;
    if (job->is_db_chosen && job->db == db)
        return KITH_OK;
    int status = kith_rdb_job_settle(job, 0);
    if (status)
        return status;
    kith_num_format_uint64(digits, db);
    status = kith_client_call_words(job->client, &reply, &job->error, "SELECT", digits, (char *)NULL);
    if (status)
        return status;
    job->db = db;
    job->is_db_chosen = true;
    job->has_db = reply.type != KITH_VALUE_ERROR;
    kith_value_fini(&reply);
    return KITH_OK;
}

static bool is_passed_over(const struct kith_rdb_job *job)
{
    return job->is_expired || job->is_left_out;
}

/* A key of a type that there is: whether it is to be sent is seen. */
static int begin_key(struct kith_rdb_job *job, const struct kith_rdb_key *key)
{
    job->number++;
    job->is_begun = job->is_left_out = false;
    job->is_expired = key->expiry_ms >= 0 && key->expiry_ms <= job->now_ms;
    job->expired += job->is_expired;
    if (job->is_expired)
        return KITH_OK;
    int status = choose_db(job, key->db);
    if (status)
        return status;
    if (!job->has_db) {
        job->is_left_out = true;
        kith_rdb_job_left_out(job, key->db, key->type, key->name,
                              "the server has no such database: raise its 'databases'", false);
        return KITH_OK;
    }
    kith_buf_clear(&job->key);
    if (job->prefix)
        kith_buf_append_text(&job->key, job->prefix);
    kith_buf_append(&job->key, key->name.data, key->name.length);
    return job->key.failed ? out_of_memory(job) : KITH_OK;
}

static void add_time(struct kith_rdb_job *job, int64_t when_ms)
{
    char digits[KITH_NUM_INT64_CHARS];
    add_argument(job, kith_slice(digits, kith_num_format_int64(digits, when_ms)));
}

static int on_string(void *arg, const struct kith_rdb_key *key, struct kith_slice value)
{
    struct kith_rdb_job *job = arg;
    int status = begin_key(job, key);
    if (status || is_passed_over(job))
        return status;
    begin_command(job, "SET");
    add_argument(job, value);
    if (key->expiry_ms >= 0) {
        add_word(job, "PXAT");
        add_time(job, key->expiry_ms);
    }
    return send_command(job, key, 0, true);
}

static int on_begin(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vectors *vectors)
{
    struct kith_rdb_job *job = arg;
    if (vectors)
        job->vectors = *vectors;
    job->argc = job->batched = 0;
    return begin_key(job, key);
}

/* Before an element: what the server has under the name goes, and a command is there to take the element. */
static int begin_element(struct kith_rdb_job *job, const struct kith_rdb_key *key, const char *command)
{
    if (!job->is_begun) {
        begin_command(job, "DEL");
        int status = send_command(job, key, 0, false);
        if (status)
            return status;
    }
    if (job->batched == 0)
        begin_command(job, command);
    return KITH_OK;
}

/* Behind it: a command that is large enough goes. */
static int end_element(struct kith_rdb_job *job, const struct kith_rdb_key *key)
{
    job->batched++;
    if (job->batched < BATCH_ELEMENTS && job->arguments.length < BATCH_BYTES)
        return job->arguments.failed ? out_of_memory(job) : KITH_OK;
    return send_command(job, key, 0, false);
}

static int on_field(void *arg, const struct kith_rdb_key *key, struct kith_slice field,
                    struct kith_slice value)
{
    struct kith_rdb_job *job = arg;
    if (is_passed_over(job))
        return KITH_OK;
    int status = begin_element(job, key, "HSET");
    if (status)
        return status;
    add_argument(job, field);
    add_argument(job, value);
    return end_element(job, key);
}

static int on_member(void *arg, const struct kith_rdb_key *key, struct kith_slice member, double score)
{
    struct kith_rdb_job *job = arg;
    char digits[KITH_NUM_DOUBLE_CHARS];
    if (is_passed_over(job))
        return KITH_OK;
    int status = begin_element(job, key, "ZADD");
    if (status)
        return status;
    add_argument(job, kith_slice(digits, kith_num_format_double(digits, score)));
    add_argument(job, member);
    return end_element(job, key);
}

static int on_vector(void *arg, const struct kith_rdb_key *key, const struct kith_rdb_vector *vector)
{
    static const char *const codes[] = {
        [KITH_RDB_NOQUANT] = "NOQUANT", [KITH_RDB_Q8] = "Q8", [KITH_RDB_BIN] = "BIN"};
    struct kith_rdb_job *job = arg;
    if (is_passed_over(job))
        return KITH_OK;
    int status = begin_element(job, key, "VADD");
    if (status)
        return status;
    uint32_t m = job->vectors.m < M_LEAST ? M_LEAST : job->vectors.m > M_MOST ? M_MOST : job->vectors.m;
    char digits[KITH_NUM_INT64_CHARS];
    add_word(job, "FP32");
    add_argument(job, kith_slice(vector->components, vector->dim * sizeof *vector->components));
    add_argument(job, vector->element);
    add_word(job, codes[job->vectors.codes]);
    add_word(job, "M");
    add_argument(job, kith_slice(digits, kith_num_format_uint64(digits, m)));
    if (vector->attributes.length) {
        add_word(job, "SETATTR");
        add_argument(job, vector->attributes);
    }
    return send_command(job, key, 0, false);
}

static int on_end(void *arg, const struct kith_rdb_key *key, uint64_t elements, uint64_t left_out,
                  const char *why)
{
    struct kith_rdb_job *job = arg;
    if (is_passed_over(job))
        return KITH_OK;
    if (left_out) {
        char text[200];
        unsigned long long missing = left_out, all = elements + left_out;
        snprintf(text, sizeof text, "%llu of %llu: %s", missing, all, why);
        kith_rdb_job_left_out(job, key->db, key->type, key->name, text, elements != 0);
    }
    if (!elements)
        return KITH_OK;
    int status = job->batched ? send_command(job, key, 0, false) : KITH_OK;
    if (status)
        return status;
    /* A last command whose reply tells that all before it were carried out. */
    begin_command(job, key->expiry_ms >= 0 ? "PEXPIREAT" : "EXISTS");
    if (key->expiry_ms >= 0)
        add_time(job, key->expiry_ms);
    return send_command(job, key, elements, true);
}

static int on_skipped(void *arg, const struct kith_rdb_key *key, const char *why)
{
    struct kith_rdb_job *job = arg;
    job->number++;
    kith_rdb_job_left_out(job, key->db, key->type, key->name, why, false);
    return KITH_OK;
}

static int on_other(void *arg, const char *what, struct kith_slice name)
{
    kith_rdb_job_left_out(arg, UINT32_MAX, what, name, NULL, false);
    return KITH_OK;
}

const struct kith_rdb_events kith_rdb_job_events = {.string = on_string,
                                                    .begin = on_begin,
                                                    .field = on_field,
                                                    .member = on_member,
                                                    .vector = on_vector,
                                                    .end = on_end,
                                                    .skipped = on_skipped,
                                                    .other = on_other};
