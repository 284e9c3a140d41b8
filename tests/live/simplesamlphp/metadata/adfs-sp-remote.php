<?php
$metadata['urn:claims'] = [
    'prp' => getenv('IDP_REPLY'),
    'simplesaml.nameidattribute' => 'uid',
];
