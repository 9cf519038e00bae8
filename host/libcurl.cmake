# SPDX-License-Identifier: MIT
# What of libcurl is built: HTTP/1.1 without TLS. Read by cmake -C before curl's
# own CMakeLists.txt; called by libcurl.sh.
function(each value)
  foreach(name ${ARGN})
    set(${name} ${value} CACHE BOOL "")
  endforeach()
endfunction()

each(ON CMAKE_POSITION_INDEPENDENT_CODE HTTP_ONLY)
each(OFF BUILD_SHARED_LIBS BUILD_CURL_EXE BUILD_TESTING ENABLE_MANUAL
  CURL_ENABLE_EXPORT_TARGET PICKY_COMPILER)

# No other libraries, and no thread: a worker is a fork.
each(OFF CURL_ENABLE_SSL CURL_ZLIB CURL_USE_LIBPSL CURL_USE_LIBSSH2 USE_LIBIDN2
  ENABLE_THREADED_RESOLVER)

# Nothing that acts without being asked to, by the environment or a server.
each(ON CURL_DISABLE_ALTSVC CURL_DISABLE_COOKIES CURL_DISABLE_DOH
  CURL_DISABLE_HSTS CURL_DISABLE_HTTP_AUTH CURL_DISABLE_CRYPTO_AUTH
  CURL_DISABLE_NETRC CURL_DISABLE_NTLM CURL_DISABLE_PROXY)
each(ON CURL_DISABLE_GETOPTIONS CURL_DISABLE_MIME CURL_DISABLE_PARSEDATE
  CURL_DISABLE_PROGRESS_METER CURL_DISABLE_SHUFFLE_DNS)
each(OFF ENABLE_UNIX_SOCKETS)

# A pair of sockets in each multi handle, to be woken by: no table has them, so
# workers would inherit them. We wait for a descriptor of our own.
each(ON CURL_DISABLE_SOCKETPAIR)

# Of glibc 2.36, and Amazon Linux 2023 has 2.34.
each(OFF HAVE_ARC4RANDOM)
