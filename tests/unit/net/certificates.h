/* Certificates for tests, made when they are needed, so that none lies about and none runs out. */
#ifndef TESTS_CERTIFICATES_H
#define TESTS_CERTIFICATES_H

/* Writes DIR/NAME-ca.pem, and DIR/NAME-cert.pem with DIR/NAME-key.pem signed by it. Aborts when it cannot. */
void make_certificates(const char *dir, const char *name);

#endif
