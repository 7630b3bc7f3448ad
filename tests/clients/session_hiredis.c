/* session_hiredis.c PORT: a session through hiredis, pipelined and not. Ends with "ok". */
#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, const redisReply *reply)
{
    fprintf(stderr, "%s: type %d, %s\n", what, reply ? reply->type : -1,
            reply && reply->str ? reply->str : "(none)");
    exit(1);
}

static void expect(redisContext *c, int type, const char *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    redisReply *reply = redisvCommand(c, format, args);
    va_end(args);
    if (!reply || reply->type != type)
        fail(format, reply);
    if (text && type == REDIS_REPLY_INTEGER && reply->integer != atoll(text))
        fail(format, reply);
    if (text && type != REDIS_REPLY_INTEGER && type != REDIS_REPLY_ARRAY && strcmp(reply->str, text) != 0)
        fail(format, reply);
    if (text && type == REDIS_REPLY_ARRAY && (long long)reply->elements != atoll(text))
        fail(format, reply);
    freeReplyObject(reply);
}

int main(int argc, char **argv)
{
    redisContext *c = redisConnect("127.0.0.1", argc > 1 ? atoi(argv[1]) : 6379);
    if (!c || c->err)
        fail(c ? c->errstr : "no memory", NULL);
    expect(c, REDIS_REPLY_STATUS, "PONG", "PING");
    expect(c, REDIS_REPLY_STATUS, "OK", "FLUSHALL");
    expect(c, REDIS_REPLY_STATUS, "OK", "SET %b %b", "k\0k", (size_t)3, "v\0v", (size_t)3);
    expect(c, REDIS_REPLY_INTEGER, "3", "STRLEN %b", "k\0k", (size_t)3);
    expect(c, REDIS_REPLY_NIL, NULL, "GET none");
    expect(c, REDIS_REPLY_INTEGER, "2", "HSET h f1 v1 f2 v2");
    expect(c, REDIS_REPLY_ARRAY, "4", "HGETALL h");
    expect(c, REDIS_REPLY_INTEGER, "1", "ZADD z 1.5 m");
    expect(c, REDIS_REPLY_STRING, "1.5", "ZSCORE z m");
    expect(c, REDIS_REPLY_INTEGER, "1", "VADD vs VALUES 3 1 0 0 x");
    expect(c, REDIS_REPLY_ARRAY, "1", "VSIM vs VALUES 3 1 0 0");
    expect(c, REDIS_REPLY_ERROR, "WRONGTYPE Operation against a key holding the wrong kind of value",
           "GET h");
    for (int i = 0; i < 10000; i++)
        redisAppendCommand(c, "INCR n");
    for (int i = 1; i <= 10000; i++) {
        redisReply *reply = NULL;
        if (redisGetReply(c, (void **)&reply) != REDIS_OK || reply->type != REDIS_REPLY_INTEGER ||
            reply->integer != i)
            fail("a pipeline of INCR", reply);
        freeReplyObject(reply);
    }
    expect(c, REDIS_REPLY_STATUS, "OK", "FLUSHALL");
    redisFree(c);
    printf("hiredis %d.%d.%d ok\n", HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    return 0;
}
