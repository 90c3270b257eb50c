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

/* Begins a list whose tags are about as wide as that text; ".El" ends it. */
void begin(const char *width);
/* An item: its macro, its name with '-' or '_' for '_', its argument or NULL. */
void item(const char *macro, const char *name, char dash, const char *argument);

/* ---- def-api.c: the public socket */
void list_errors(void);
void list_methods(void);
void list_job_states(void);
void list_metrics(void);
void list_label_values(void);

/* ---- def-protocol.c: runners */
void list_messages(void);
void list_stages(void);
void list_runner_options(void);
void list_runner_exits(void);

/* ---- def-events.c: what zitd logs */
void list_events(void); /* as mdoc, as is the next */
void list_event_fields(void);
void list_catalog(void); /* as a message catalog of systemd */
void list_catalog_zh_CN(void);

#endif
