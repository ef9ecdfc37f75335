"""The pictures that papers show, as collections: `paper:<key>` wherever a picture is asked for."""
