/* Addresses of peers: "host:port", with brackets around an IPv6 host. */
#include "net/peer_internal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>

int kith_peer_parse_address(const char *text, char host[KITH_PEER_HOST_BYTES], uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0, digits = colon ? strlen(colon + 1) : 0;
    bool bracketed = length >= 2 && text[0] == '[' && text[length - 1] == ']';
    if (bracketed) {
        text++;
        length -= 2;
    }
    if (!length || length >= KITH_PEER_HOST_BYTES || digits < 1 || digits > 5 ||
        strspn(colon + 1, "0123456789") != digits || (!bracketed && memchr(text, ':', length)) ||
        strcspn(text, " \t") < length)
        return KITH_EINVAL;
    unsigned long number = strtoul(colon + 1, NULL, 10);
    if (number > UINT16_MAX)
        return KITH_EINVAL;
    memcpy(host, text, length);
    host[length] = '\0';
    *port = (uint16_t)number;
    return KITH_OK;
}

int peer_resolve(const char *address, bool passive, struct addrinfo **out, struct kith_error *error)
{
    char host[KITH_PEER_HOST_BYTES], service[8];
    uint16_t port;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0};
    if (kith_peer_parse_address(address, host, &port) != KITH_OK)
        return kith_error_set(error, KITH_EINVAL,
                              "'%s' is no address: it should be host:port, or [::1]:port for IPv6", address);
    snprintf(service, sizeof service, "%u", port);
    int result = getaddrinfo(host, service, &hints, out);
    if (result != 0)
        return kith_error_set(error, KITH_EIO, "cannot find the host of %s: %s", address,
                              gai_strerror(result));
    return KITH_OK;
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

bool kith_peer_is_loopback(const char *host)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    bool loopback = getaddrinfo(host, NULL, &hints, &found) == 0 && found;
    for (struct addrinfo *each = found; each; each = each->ai_next)
        loopback = loopback && is_loopback(each->ai_addr);
    if (found)
        freeaddrinfo(found);
    return loopback;
}
