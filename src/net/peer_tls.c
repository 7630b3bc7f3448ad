/* OpenSSL over memory BIOs: libuv has the sockets. TLS 1.3 only, both sides show a certificate, no session is resumed
 * (connections are few and live long). Names in certificates are not looked at: members move between hosts, and who has
 * a certificate of the group's own CA is a member. */
#include "net/peer_tls.h"

#include "base/assert.h"

#include <openssl/err.h>
#include <stdlib.h>

enum { PLAIN_BYTES = 16 << 10 }; /* the most that one record holds */

struct kith_peer_tls {
    SSL_CTX *context;
};

/* The oldest error of OpenSSL's queue, which is emptied. */
static const char *why(char *text, size_t size)
{
    unsigned long code = ERR_get_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    snprintf(text, size, "%s", reason ? reason : "unknown reason");
    ERR_clear_error();
    return text;
}

int kith_peer_tls_open(struct kith_peer_tls **out, const char *certificate, const char *key, const char *ca,
                       struct kith_error *error)
{
    char text[128];
    struct kith_peer_tls *tls = calloc(1, sizeof *tls);
    SSL_CTX *context = tls ? SSL_CTX_new(TLS_method()) : NULL;
    if (!context) {
        free(tls);
        return kith_error_set(error, KITH_ENOMEM, "out of memory");
    }
    tls->context = context;
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context, 0);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    int status = KITH_OK;
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        status = kith_error_set(error, KITH_EINVAL, "cannot use cluster-tls-cert %s: %s", certificate,
                                why(text, sizeof text));
    else if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(context) != 1)
        status = kith_error_set(error, KITH_EINVAL, "cannot use cluster-tls-key %s: %s", key,
                                why(text, sizeof text));
    else if (SSL_CTX_load_verify_locations(context, ca, NULL) != 1)
        status = kith_error_set(error, KITH_EINVAL, "cannot use cluster-tls-ca %s: %s", ca,
                                why(text, sizeof text));
    if (status != KITH_OK) {
        kith_peer_tls_close(tls);
        return status;
    }
    *out = tls;
    return KITH_OK;
}

void kith_peer_tls_close(struct kith_peer_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->context);
    free(tls);
}

int peer_tls_init(struct peer_tls *channel, const struct kith_peer_tls *tls, bool dialer)
{
    *channel = (struct peer_tls){.ssl = SSL_new(tls->context)};
    BIO *incoming = BIO_new(BIO_s_mem()), *outgoing = BIO_new(BIO_s_mem());
    if (!channel->ssl || !incoming || !outgoing) {
        BIO_free(incoming);
        BIO_free(outgoing);
        SSL_free(channel->ssl);
        *channel = (struct peer_tls){0};
        return KITH_ENOMEM;
    }
    BIO_set_mem_eof_return(incoming, -1); /* empty means: not yet */
    SSL_set_bio(channel->ssl, incoming, outgoing);
    channel->incoming = incoming;
    channel->outgoing = outgoing;
    if (dialer)
        SSL_set_connect_state(channel->ssl);
    else
        SSL_set_accept_state(channel->ssl);
    return KITH_OK;
}

void peer_tls_fini(struct peer_tls *channel)
{
    SSL_free(channel->ssl);
    *channel = (struct peer_tls){0};
}

static int fail(struct peer_tls *channel, char *reason, size_t reason_size)
{
    long verdict = SSL_get_verify_result(channel->ssl);
    char text[128];
    why(text, sizeof text);
    if (verdict != X509_V_OK)
        snprintf(reason, reason_size, "showed a certificate that cluster-tls-ca does not vouch for: %s",
                 X509_verify_cert_error_string(verdict));
    else
        snprintf(reason, reason_size, "failed in TLS: %s", text);
    return KITH_EPERM;
}

int peer_tls_handshake(struct peer_tls *channel, char *reason, size_t reason_size)
{
    if (channel->established)
        return KITH_OK;
    ERR_clear_error();
    int result = SSL_do_handshake(channel->ssl);
    if (result != 1)
        return SSL_get_error(channel->ssl, result) == SSL_ERROR_WANT_READ
                   ? KITH_OK
                   : fail(channel, reason, reason_size);
    static const char label[] = "EXPORTER-Kith-Peer";
    if (SSL_export_keying_material(channel->ssl, (unsigned char *)channel->binding, sizeof channel->binding,
                                   label, sizeof label - 1, NULL, 0, 0) != 1)
        return fail(channel, reason, reason_size);
    channel->established = true;
    return KITH_OK;
}

static int read_plain(struct peer_tls *channel, int (*plain)(void *context, struct kith_slice bytes),
                      void *context, char *reason, size_t reason_size)
{
    char bytes[PLAIN_BYTES];
    for (;;) {
        ERR_clear_error();
        int length = SSL_read(channel->ssl, bytes, sizeof bytes);
        if (length <= 0) {
            int error = SSL_get_error(channel->ssl, length);
            if (error == SSL_ERROR_ZERO_RETURN)
                return KITH_ECLOSED;
            return error == SSL_ERROR_WANT_READ ? KITH_OK : fail(channel, reason, reason_size);
        }
        int status = plain(context, kith_slice(bytes, (size_t)length));
        if (status != KITH_OK)
            return status;
    }
}

int peer_tls_receive(struct peer_tls *channel, struct kith_slice bytes,
                     int (*plain)(void *context, struct kith_slice bytes), void *context, char *reason,
                     size_t reason_size)
{
    KITH_ASSERT(bytes.length <= 1u << 30);
    if (BIO_write(channel->incoming, bytes.data, (int)bytes.length) != (int)bytes.length) {
        snprintf(reason, reason_size, "out of memory");
        return KITH_ENOMEM;
    }
    int status = peer_tls_handshake(channel, reason, reason_size);
    if (status != KITH_OK || !channel->established)
        return status;
    return read_plain(channel, plain, context, reason, reason_size);
}

int peer_tls_send(struct peer_tls *channel, struct kith_slice bytes)
{
    const size_t piece_max = 1u << 30;
    for (; bytes.length; bytes = kith_slice(bytes.data + piece_max, bytes.length - piece_max)) {
        size_t piece = bytes.length < piece_max ? bytes.length : piece_max;
        ERR_clear_error();
        if (SSL_write(channel->ssl, bytes.data, (int)piece) != (int)piece)
            return KITH_ENOMEM; /* a memory BIO refuses for nothing else */
        if (piece == bytes.length)
            break;
    }
    return KITH_OK;
}

void peer_tls_take(struct peer_tls *channel, struct kith_buf *out)
{
    char *data;
    long length = BIO_get_mem_data(channel->outgoing, &data);
    if (length > 0)
        kith_buf_append(out, data, (size_t)length);
    (void)BIO_reset(channel->outgoing); /* a memory BIO's never fails */
}
