/* What the files of sorted-set commands share. */
#ifndef KITH_ENGINE_COMMANDS_ZSET_H
#define KITH_ENGINE_COMMANDS_ZSET_H

#include "engine/keyspace.h"
#include "engine/zset.h"

/* The set at argv[index], NULL when there is none; false when a reply was written. */
bool kith_zset_open_read(struct kith_call *call, size_t index, struct kith_zset **zset);

/* Replaces what is at argv[index] by `zset` (taken), or removes the key when it is empty; answers its size.
 */
void kith_zset_store(struct kith_call *call, size_t index, struct kith_zset *zset);

/* "ERR min or max is not a float" and the like are written by the caller. A bound by score: [exclusive '(']
 * number. */
struct kith_score_bound {
    double score;
    bool exclusive;
};
bool kith_score_bound_parse(struct kith_slice text, struct kith_score_bound *bound);

/* A kith_zset_fn that writes members, with scores when asked: in pairs of their own in RESP3, flat in RESP2.
 */
struct kith_zset_writer {
    struct kith_reply *reply;
    bool with_scores;
};
void kith_zset_write_member(void *arg, struct kith_slice member, double score);

/* Handlers by file, for the table at the end of zset.c. */
void kith_zrange_command(struct kith_call *call);
void kith_zrangestore_command(struct kith_call *call);
void kith_zrevrange_command(struct kith_call *call);
void kith_zrangebyscore_command(struct kith_call *call);
void kith_zrevrangebyscore_command(struct kith_call *call);
void kith_zrangebylex_command(struct kith_call *call);
void kith_zrevrangebylex_command(struct kith_call *call);
void kith_zcount_command(struct kith_call *call);
void kith_zlexcount_command(struct kith_call *call);
void kith_zremrangebyrank_command(struct kith_call *call);
void kith_zremrangebyscore_command(struct kith_call *call);
void kith_zremrangebylex_command(struct kith_call *call);

void kith_zunion_command(struct kith_call *call);
void kith_zinter_command(struct kith_call *call);
void kith_zdiff_command(struct kith_call *call);
void kith_zunionstore_command(struct kith_call *call);
void kith_zinterstore_command(struct kith_call *call);
void kith_zdiffstore_command(struct kith_call *call);
void kith_zintercard_command(struct kith_call *call);
void kith_zpopmin_command(struct kith_call *call);
void kith_zpopmax_command(struct kith_call *call);
void kith_zmpop_command(struct kith_call *call);
void kith_zrandmember_command(struct kith_call *call);
void kith_zscan_command(struct kith_call *call);

#endif
