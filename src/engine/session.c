/* A client as far as commands see it: a few words that the driver's connection embeds. */
#include "engine/engine.h"

#include <stdlib.h>

void kith_session_init(struct kith_session *session, uint64_t id)
{
    *session = (struct kith_session){.id = id, .protocol = 2};
}

void kith_session_fini(struct kith_session *session)
{
    free(session->name);
    free(session->library_name);
    free(session->library_version);
    session->name = session->library_name = session->library_version = NULL;
}
