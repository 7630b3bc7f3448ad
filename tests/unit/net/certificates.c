/* A CA and one certificate signed by it, P-256, valid for a day. */
#include "certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

static void need(int good)
{
    if (!good)
        abort();
}

static X509 *make(EVP_PKEY *key, const char *common_name, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *x = X509_new();
    need(x && X509_set_version(x, 2) && ASN1_INTEGER_set(X509_get_serialNumber(x), issuer ? 2 : 1));
    need(X509_gmtime_adj(X509_getm_notBefore(x), -3600) && X509_gmtime_adj(X509_getm_notAfter(x), 86400));
    need(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                                    (const unsigned char *)common_name, -1, -1, 0));
    need(X509_set_issuer_name(x, X509_get_subject_name(issuer ? issuer : x)) && X509_set_pubkey(x, key));
    X509_EXTENSION *basic =
        X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
    need(basic && X509_add_ext(x, basic, -1));
    X509_EXTENSION_free(basic);
    need(X509_sign(x, issuer_key, EVP_sha256()));
    return x;
}

static FILE *file(const char *dir, const char *name, const char *kind)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s-%s.pem", dir, name, kind);
    FILE *f = fopen(path, "w");
    need(f != NULL);
    return f;
}

void make_certificates(const char *dir, const char *name)
{
    EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
    need(ca_key && key);
    X509 *ca = make(ca_key, name, NULL, ca_key), *certificate = make(key, "node", ca, ca_key);
    FILE *f = file(dir, name, "ca");
    need(PEM_write_X509(f, ca) && fclose(f) == 0);
    f = file(dir, name, "cert");
    need(PEM_write_X509(f, certificate) && fclose(f) == 0);
    f = file(dir, name, "key");
    need(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) && fclose(f) == 0);
    X509_free(ca);
    X509_free(certificate);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
}
