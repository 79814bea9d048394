//! Tokens and public keys of an independent implementation (PyJWT 2.15). All tokens say
//! `{"user_id":"ada","permissions":["read"]}`; the private keys are gone.

pub(super) const RS256_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAgukzer9/zNScERujmGiR\n\
    f71wf2FfB3/Fi3nnN12OBST3MYhKWuvf+Lyv4IcJZV2S0MBPo80BgKMtPAerMe36\n\
    9IqOsT1rZkiUw5/6SfJp9t3irPMrBnkdcvwcHgRGefsGVWTrLKopRRbfLzLcbJk3\n\
    LTEVyRsyC2axNlB6/cNAy2eWVMPncJYX3TTS3mWsQvHvNq90JMtjDnG0IZ/kAvTS\n\
    eqEK+cnEiKD4ntNPDkwOLXBxEko6VFsNmGXb7kXDPIFt4EhUD4ko8q80zsoFCU4k\n\
    r72SknH+vM+UPVfdecRqz+V8geP4rX4jTdbdIu75w0p3IQJn3aZ9qapWiWBeRq4B\n\
    IwIDAQAB\n\
    -----END PUBLIC KEY-----\n";

pub(super) const RS256_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoiYWRhIiwicGVybWlzc2lvbnMiOlsicmVhZCJdfQ.SmcvBEtE\
    LrphQlJo3d0Fg0C9gcLClM7nyblEb8h5r0kRY9deqBTLung7d71l8HenEYTWihVZJqaLsirF7UiyfgfMuCACScj-Wc8YwgaDpnrb\
    z43q5VUdToJQbHSAsrMK667pIBAlrupinXb2Yr00bRWFw6pCpE5rQke-i8bKO_ka_0vDWkMABLMYWNGHTbelJdMw2TEaI12oHOjb\
    HvQ5XHz4cZwnHa03iedBe9spDN7ARnx5R1v_ZNemnUTJwn4QAm0-0t9nFiJYWwkgCykE6OmR4r_5ezrkHlJ3eQ109C4_51gQcgmo\
    JI_xHmaXy0YmzXNmC6agmXzuugQPZoduBQ";

pub(super) const ES256_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAESvE4UAv9NhXGUzIugPvF1WI6x2DM\n\
    +UeK26f1XC9zZuJ6DeFA4ISO0ddW2ZgrUN+OZ7AQ4VqsmMLYWfWFg+GqmQ==\n\
    -----END PUBLIC KEY-----\n";

pub(super) const ES256_TOKEN: &str = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoiYWRhIiwicGVybWlzc2lvbnMiOlsicmVhZCJdfQ.BYZp_-tr\
    FjhHD8nvDr5nJOPzVJQzDDI9ypfNUOQe18SLqB2GNSFwPrgmLBZ_ImrdZvg-iEIQW_4CD-waUUpDqw";

pub(super) const ES384_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEo+CIkFmWPpBRRvkUm55OW6UyVDX3jZtn\n\
    Bws6VCvhs4fLKLX0vNNZlIdf3RY7kpVG1fXZMWvRhCIk/o7aQmYWcyDM+6luSDRg\n\
    cyhtkDLBFGb5GNetCqWSo9rAcg5gIeAC\n\
    -----END PUBLIC KEY-----\n";

pub(super) const ES384_TOKEN: &str = "eyJhbGciOiJFUzM4NCIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoiYWRhIiwicGVybWlzc2lvbnMiOlsicmVhZCJdfQ.4IwcqRrv\
    s2QZ5dEuhtPilwAoAYhmOZCWFGch3g24_0qEeMJzEuGSwMTD49QhBidrgD42Z9fUg-GZBAvNTf8BjmxejTX98OdzB5QPg91SnKqn\
    fPEuhPoFomHWN9UWgfO9";

pub(super) const EDDSA_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAtfwrlggjub55Antfk9lxyOzTEy/NpofZDFNf6X8wyIU=\n\
    -----END PUBLIC KEY-----\n";

pub(super) const EDDSA_TOKEN: &str = "eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoiYWRhIiwicGVybWlzc2lvbnMiOlsicmVhZCJdfQ.4IPe-QHi\
    ENH1mYDRJ3K4PSBiMnQmEaKkvvbNYKdilVCgsvM3VQYgultGGBnuyr3salGWbL687yFKFV3WzWBuDA";

/// HS256, with the text of the RS256 public key as its secret.
pub(super) const CONFUSED_TOKEN: &str = "eyJhbGciOiAiSFMyNTYiLCAidHlwIjogIkpXVCJ9.eyJ1c2VyX2lkIjogImFkYSIsICJwZXJtaXNzaW9ucyI6IFsicmVhZCJdfQ.\
    AknqDzt67leYaGjpZ0YD48CNtTmfcOlI4xuHsTxg5LM";

/// RSA with 1024 bits.
pub(super) const SMALL_RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQD2Q4phGznWbfIDsiayVMC5q+os\n\
    pileIL3e+UZVz7vmayqP2J/trcD9CGHkaByHY+ojfEfKtQc/YfSo7zFYOeY6eMO4\n\
    NlyCTGXh/Cc7Is10jFEyNxRaN+PjaGOtm1jak8ukaF/hm6MvGGKOyQkcoMr6hdIf\n\
    U2jFPr94lW1H4Ep0SQIDAQAB\n\
    -----END PUBLIC KEY-----\n";

/// HS256 under `q7Jm2xVb9TzLr4Wc8YpK5NdH3sFgA6Ue`, with `"iat":1770000000,"exp":1770003600`.
pub(super) const HS256_TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ1c2VyX2lkIjoiYWRhIiwicGVybWlzc2lvbnMiOlsicmVhZCJdLCJpYXQiOjE\
    3NzAwMDAwMDAsImV4cCI6MTc3MDAwMzYwMH0.zMhCzZtdW8ew_Kg3oNlqfXGHkkr3JV6ZEUX1hq9xIy4";
