/* SPDX-License-Identifier: MPL-2.0 */
/*
 * Looks names up in the machine's files and by DNS, as programs in Go do, whatever /etc/nsswitch.conf says.
 *
 * A static binary contains these two services. Any other service would be loaded from the machine, which works only if
 * the machine has the same C library that the binary was built with.
 *
 * Source: "Name Service Switch" and "Static linking" in the manual of the GNU C library.
 */
#include <nss.h>

__attribute__((constructor)) static void use_what_is_built_in(void)
{
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
    __nss_configure_lookup("services", "files");
}
