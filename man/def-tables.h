/*
 * What the lists of def-tables share.
 */
#ifndef MAN_DEF_TABLES_H
#define MAN_DEF_TABLES_H

/* Text as mdoc takes it; it may begin a line. */
void put(const char *text);
/* In lower case, with `dash` for underscores. */
void put_lower(const char *text, char dash);
/* A capital and a full stop, whatever the row has, and the line's end. */
void put_sentence(const char *text);

/* ---- def-events.c: what zitd logs */
void list_events(void); /* as mdoc, as is the next */
void list_event_fields(void);
void list_catalog(void); /* as a message catalog of systemd */
void list_catalog_zh_CN(void);

#endif
